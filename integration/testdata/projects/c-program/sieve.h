/* sieve calls found with each prime up to max, in order. */
int sieve(int max, void (*found)(int));
