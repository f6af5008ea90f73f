// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.maths;

import static org.hamcrest.MatcherAssert.assertThat;
import static org.hamcrest.Matchers.contains;
import static org.hamcrest.Matchers.empty;
import static org.hamcrest.Matchers.equalTo;
import static org.hamcrest.Matchers.greaterThan;
import static org.hamcrest.Matchers.greaterThanOrEqualTo;
import static org.hamcrest.Matchers.hasEntry;
import static org.hamcrest.Matchers.hasItem;
import static org.hamcrest.Matchers.hasKey;
import static org.hamcrest.Matchers.hasSize;
import static org.hamcrest.Matchers.is;
import static org.hamcrest.Matchers.not;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class PrimesTest {

    @Test
    void testsNumbers() {
        assertThat(Primes.isPrime(2), is(true));
        assertThat(Primes.isPrime(97), is(true));
        assertThat(Primes.isPrime(1), is(false));
        assertThat(Primes.isPrime(91), is(false));
        assertThat(Primes.isPrime(-7), is(not(true)));
        assertThat(Primes.isPrime(2_147_483_647L), is(true));
    }

    @Test
    void listsPrimes() {
        assertThat(Primes.upTo(20), contains(2, 3, 5, 7, 11, 13, 17, 19));
        assertThat(Primes.upTo(2), hasSize(1));
        assertThat(Primes.upTo(1), is(empty()));
        assertThat(Primes.upTo(100), hasItem(89));
        assertThat(Primes.upTo(100), not(hasItem(87)));
    }

    @Test
    void countsPrimes() {
        assertThat(Primes.count(10), is(4));
        assertThat(Primes.count(1000), equalTo(168));
        assertThat(Primes.count(-5), is(0));
        assertThat(Primes.count(100), greaterThan(Primes.count(50)));
    }

    @Test
    void agreesWithTheSieve() {
        List<Integer> primes = Primes.upTo(200);
        for (int number = 0; number <= 200; number++) {
            assertThat(Primes.isPrime(number), is(primes.contains(number)));
        }
    }

    @Test
    void findsTheNextPrime() {
        assertThat(Primes.next(13), is(17L));
        assertThat(Primes.next(-10), is(2L));
        assertThat(Primes.next(1000), greaterThanOrEqualTo(1009L));
    }

    @Test
    void factorizes() {
        assertThat(Primes.factors(360), contains(2L, 2L, 2L, 3L, 3L, 5L));
        assertThat(Primes.factors(97), is(List.of(97L)));
        assertThat(Primes.factors(1), hasSize(0));
        Map<Long, Integer> exponents = Primes.factorMap(360);
        assertThat(exponents, hasEntry(2L, 3));
        assertThat(exponents, hasKey(5L));
        assertThat(exponents.size(), is(3));
    }

    @Test
    void countsDivisors() {
        assertThat(Primes.divisorCount(360), is(24));
        assertThat(Primes.divisorCount(1), is(1));
        assertThat("a prime has two divisors", Primes.divisorCount(101), is(2));
    }

    @Test
    void comparesFactors() {
        assertThat(Primes.totient(36), is(12L));
        assertThat(Primes.totient(7), is(6L));
        assertThat(Primes.areCoprime(8, 15), is(true));
        assertThat(Primes.areCoprime(8, 12), is(false));
    }

    @Test
    void rejectsNumbersBelowOne() {
        assertThrows(IllegalArgumentException.class, () -> Primes.factors(0));
        assertThrows(IllegalArgumentException.class, () -> Primes.areCoprime(3, -1));
    }
}
