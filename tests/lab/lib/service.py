# SPDX-License-Identifier: Apache-2.0
"""service.py - a server of the lab that is started, ended, and stopped in the middle"""

import signal
import subprocess


class Service:
    """process: None while it does not run; what it keeps outlives it. start() is the
    server's own."""

    process, paused = None, False

    def running(self):
        return self.process is not None and not self.paused

    def end(self, sig, name):
        process, self.process = self.process, None
        self.paused = False
        process.send_signal(sig)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} ignored signal {sig}") from None

    def restart(self):
        self.stop()
        self.start()

    def pause(self):
        """SIGSTOP: connections stay, nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
        self.paused = False
