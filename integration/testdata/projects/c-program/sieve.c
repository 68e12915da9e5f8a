#include <stdlib.h>
#include "sieve.h"

int sieve(int max, void (*found)(int))
{
	char *composite = calloc(max + 1, 1);
	if (!composite)
		return -1;
	for (int i = 2; i <= max; i++) {
		if (composite[i])
			continue;
		found(i);
		for (long j = (long)i * i; j <= max; j += i)
			composite[j] = 1;
	}
	free(composite);
	return 0;
}
