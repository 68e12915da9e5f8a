#include <stdio.h>
#include <stdlib.h>
#include "sieve.h"

static void print(int prime) { printf("%d\n", prime); }

int main(int argc, char **argv)
{
	int max = argc > 1 ? atoi(argv[1]) : 0;
	if (max < 1) {
		fprintf(stderr, "usage: primes MAX\n");
		return 2;
	}
	return sieve(max, print) ? 1 : 0;
}
