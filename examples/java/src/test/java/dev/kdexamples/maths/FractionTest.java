// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.maths;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class FractionTest {

    @Test
    void isKeptInLowestTerms() {
        Fraction fraction = Fraction.of(6, -8);
        assertEquals(-3L, fraction.getNumerator());
        assertEquals(4L, fraction.getDenominator());
        assertEquals("-3/4", fraction.toString());
        assertEquals(Fraction.of(-3, 4), fraction);
    }

    @Test
    void adds() {
        Fraction half = Fraction.of(1, 2);
        Fraction third = Fraction.of(1, 3);
        assertEquals(Fraction.of(5, 6), half.plus(third));
        assertEquals(Fraction.of(1, 6), half.minus(third));
        assertEquals(Fraction.ZERO, half.minus(half));
        assertEquals(Fraction.ONE, half.plus(half));
    }

    @Test
    void multiplies() {
        Fraction half = Fraction.of(1, 2);
        assertEquals(Fraction.of(1, 3), half.times(Fraction.of(2, 3)));
        assertEquals(Fraction.of(5, 2), half.times(5));
        assertEquals(Fraction.of(3, 4), half.dividedBy(Fraction.of(2, 3)));
        assertEquals(Fraction.of(2), half.reciprocal());
    }

    @Test
    void raisesToPowers() {
        Fraction fraction = Fraction.of(2, 3);
        assertEquals(Fraction.of(8, 27), fraction.pow(3));
        assertEquals(Fraction.of(9, 4), fraction.pow(-2));
        assertSame(Fraction.ONE, fraction.pow(0));
    }

    @Test
    void parses() {
        assertEquals(Fraction.of(3, 4), Fraction.parse(" 3 / 4 "));
        assertEquals(Fraction.of(7), Fraction.parse("7"));
        assertThrows(NumberFormatException.class, () -> Fraction.parse("1/2/3"));
        assertThrows(NumberFormatException.class, () -> Fraction.parse("1/"));
    }

    @Test
    void knowsItsSign() {
        Fraction negative = Fraction.of(-1, 2);
        assertEquals(-1, negative.signum());
        assertEquals(Fraction.of(1, 2), negative.abs());
        assertEquals(Fraction.of(1, 2), negative.negate());
        Fraction positive = Fraction.of(1, 2);
        assertSame(positive, positive.abs());
    }

    @Test
    void rounds() {
        assertEquals(-2L, Fraction.of(-3, 2).floor());
        assertEquals(1L, Fraction.of(3, 2).floor());
        assertEquals(0.375, Fraction.of(3, 8).doubleValue(), 1e-15);
        assertTrue(Fraction.of(8, 4).isWhole());
        assertFalse(Fraction.of(8, 3).isWhole());
    }

    @Test
    void compares() {
        Fraction less = Fraction.of(1, 3);
        Fraction more = Fraction.of(2, 5);
        assertTrue(less.compareTo(more) < 0);
        assertEquals(0, less.compareTo(Fraction.of(2, 6)));
        assertEquals(less.hashCode(), Fraction.of(2, 6).hashCode());
        assertNotEquals(less, more);
        assertFalse(less.equals("1/3"));
    }

    @Test
    void findsCommonDivisors() {
        assertEquals(6L, Fraction.gcd(54, 24));
        assertEquals(5L, Fraction.gcd(0, 5));
    }

    @Test
    void rejectsZeroBelowAndOverflow() {
        assertThrows(ArithmeticException.class, () -> Fraction.of(1, 0));
        assertThrows(ArithmeticException.class, () -> Fraction.ZERO.reciprocal());
        Fraction huge = Fraction.of(Long.MAX_VALUE);
        assertThrows(ArithmeticException.class, () -> huge.times(2));
    }
}
