// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.maths;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Prime numbers and what is built from them. */
public final class Primes {

    private Primes() {
    }

    public static boolean isPrime(long number) {
        if (number < 4) {
            return number > 1;
        }
        if (number % 2 == 0 || number % 3 == 0) {
            return false;
        }
        for (long divisor = 5; divisor <= number / divisor; divisor += 6) {
            if (number % divisor == 0 || number % (divisor + 2) == 0) {
                return false;
            }
        }
        return true;
    }

    /** All primes up to and including the limit. */
    public static List<Integer> upTo(int limit) {
        List<Integer> primes = new ArrayList<>();
        if (limit < 2) {
            return primes;
        }
        boolean[] composite = new boolean[limit + 1];
        for (int i = 2; i <= limit; i++) {
            if (!composite[i]) {
                primes.add(i);
                for (long j = (long) i * i; j <= limit; j += i) {
                    composite[(int) j] = true;
                }
            }
        }
        return primes;
    }

    /** How many primes there are up to and including the limit. */
    public static int count(int limit) {
        return upTo(limit).size();
    }

    /** The least prime above a number. */
    public static long next(long number) {
        long candidate = Math.max(2, number + 1);
        while (!isPrime(candidate)) {
            candidate++;
        }
        return candidate;
    }

    /** The prime factors in ascending order, repeated as often as they divide; none for 1. */
    public static List<Long> factors(long number) {
        requirePositive(number);
        List<Long> factors = new ArrayList<>();
        long rest = number;
        for (long divisor = 2; divisor <= rest / divisor; divisor++) {
            while (rest % divisor == 0) {
                factors.add(divisor);
                rest /= divisor;
            }
        }
        if (rest > 1) {
            factors.add(rest);
        }
        return factors;
    }

    /** Each prime factor with its exponent. */
    public static Map<Long, Integer> factorMap(long number) {
        Map<Long, Integer> exponents = new TreeMap<>();
        for (Long factor : factors(number)) {
            exponents.merge(factor, 1, Integer::sum);
        }
        return exponents;
    }

    /** How many numbers divide the given one. */
    public static int divisorCount(long number) {
        int count = 1;
        for (int exponent : factorMap(number).values()) {
            count *= exponent + 1;
        }
        return count;
    }

    /** How many numbers from 1 to the given one share no factor with it. */
    public static long totient(long number) {
        long result = number;
        for (long prime : factorMap(number).keySet()) {
            result = result / prime * (prime - 1);
        }
        return result;
    }

    /** Whether the two numbers have no common factor. */
    public static boolean areCoprime(long a, long b) {
        requirePositive(a);
        requirePositive(b);
        return Fraction.gcd(a, b) == 1;
    }

    private static void requirePositive(long number) {
        if (number < 1) {
            throw new IllegalArgumentException("number must be positive: " + number);
        }
    }
}
