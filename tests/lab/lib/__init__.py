# SPDX-License-Identifier: Apache-2.0
"""The lab's library: hosts, pods and switches as network namespaces."""
