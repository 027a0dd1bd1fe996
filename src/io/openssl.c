/* SPDX-License-Identifier: Apache-2.0 */
/* openssl.c - OpenSSL 3 and libevent's glue for it, by dlopen(3) */
#include "io/openssl.h"

#include "base/mem.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>

enum library {
	LIBRARY_CRYPTO,
	LIBRARY_SSL,
	LIBRARY_EVENT,
	LIBRARY_COUNT,
};

static const struct {
	const char *file, *package;
} libraries[] = {
	[LIBRARY_CRYPTO] = {"libcrypto.so.3", "libssl3"},
	[LIBRARY_SSL] = {"libssl.so.3", "libssl3"},
	[LIBRARY_EVENT] = {"libevent_openssl-2.1.so.7", "libevent-openssl-2.1-7"},
};

static const struct {
	enum library library;
	const char *name;
	size_t offset;
} functions[] = {
#define X(library, function) {LIBRARY_##library, #function, offsetof(struct openssl, function)},
	OPENSSL_FUNCTIONS(X)
#undef X
};

struct openssl openssl;
static bool loaded;

bool openssl_is_loaded(void)
{
	return loaded;
}

int openssl_load(struct err *err)
{
	/* They stay when a later one is missing: the next try finds them open. */
	static void *handles[LIBRARY_COUNT];
	struct openssl found;

	if (loaded)
		return 0;
	for (size_t i = 0; i < LIBRARY_COUNT; i++) {
		if (!handles[i])
			handles[i] = dlopen(libraries[i].file, RTLD_NOW | RTLD_LOCAL);
		if (!handles[i])
			return err_set(err, -ENOENT,
				       "TLS needs the library %s (Debian: %s), which cannot be "
				       "loaded: %s",
				       libraries[i].file, libraries[i].package, dlerror());
	}
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
		enum library library = functions[i].library;
		void *function = dlsym(handles[library], functions[i].name);

		if (!function)
			return err_set(err, -ENOENT,
				       "TLS needs another version of the library %s (Debian: %s): "
				       "it lacks %s",
				       libraries[library].file, libraries[library].package,
				       functions[i].name);
		memcpy((char *)&found + functions[i].offset, &function, sizeof(function));
	}
	openssl = found;
	loaded = true;
	return 0;
}
