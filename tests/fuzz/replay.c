/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c - main() for a fuzz target built without libFuzzer: runs the files of a
 * directory through it, so that every compiler and every machine checks the corpus
 */
#include <dirent.h>
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void replay(const char *dir, const char *name)
{
	char *path = NULL;
	if (asprintf(&path, "%s/%s", dir, name) < 0)
		err(2, "%s", name);
	FILE *f = fopen(path, "re");
	struct stat st;
	if (!f || fstat(fileno(f), &st) < 0)
		err(2, "%s", path);

	/* Exactly as long as the input, so that a read past its end is seen. */
	size_t size = (size_t)st.st_size;
	uint8_t *data = malloc(size ? size : 1);
	if (!data || fread(data, 1, size, f) != size)
		err(2, "%s", path);
	fclose(f);
	printf("%s\n", path);
	fflush(stdout);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	free(path);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		errx(2, "usage: %s CORPUS-DIRECTORY", argv[0]);
	DIR *dir = opendir(argv[1]);
	if (!dir)
		err(2, "%s", argv[1]);
	size_t n = 0;
	for (const struct dirent *e; (e = readdir(dir));) {
		if (e->d_name[0] == '.')
			continue;
		replay(argv[1], e->d_name);
		n++;
	}
	closedir(dir);
	printf("%zu inputs\n", n);
	return n ? 0 : 1;
}
