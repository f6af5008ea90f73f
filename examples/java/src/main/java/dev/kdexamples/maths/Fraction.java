// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.maths;

import java.util.Objects;

/** An exact fraction of two whole numbers, always in lowest terms with a positive denominator. */
public final class Fraction implements Comparable<Fraction> {

    public static final Fraction ZERO = new Fraction(0, 1);
    public static final Fraction ONE = new Fraction(1, 1);

    private final long numerator;
    private final long denominator;

    private Fraction(long numerator, long denominator) {
        this.numerator = numerator;
        this.denominator = denominator;
    }

    public static Fraction of(long numerator, long denominator) {
        if (denominator == 0) {
            throw new ArithmeticException("denominator must not be zero");
        }
        long divisor = gcd(Math.abs(numerator), Math.abs(denominator));
        long sign = denominator < 0 ? -1 : 1;
        return new Fraction(sign * numerator / divisor, sign * denominator / divisor);
    }

    public static Fraction of(long whole) {
        return new Fraction(whole, 1);
    }

    /** Parses {@code "3/4"} or {@code "3"}. */
    public static Fraction parse(String text) {
        String[] parts = text.trim().split("/", -1);
        if (parts.length > 2) {
            throw new NumberFormatException("not a fraction: " + text);
        }
        long numerator = Long.parseLong(parts[0].trim());
        return parts.length == 1 ? of(numerator) : of(numerator, Long.parseLong(parts[1].trim()));
    }

    /** The greatest common divisor of two numbers that are not negative. */
    public static long gcd(long a, long b) {
        return b == 0 ? a : gcd(b, a % b);
    }

    public long getNumerator() {
        return numerator;
    }

    public long getDenominator() {
        return denominator;
    }

    public Fraction plus(Fraction other) {
        return of(
                Math.addExact(
                        Math.multiplyExact(numerator, other.denominator),
                        Math.multiplyExact(other.numerator, denominator)),
                Math.multiplyExact(denominator, other.denominator));
    }

    public Fraction minus(Fraction other) {
        return plus(other.negate());
    }

    public Fraction times(Fraction other) {
        return of(
                Math.multiplyExact(numerator, other.numerator),
                Math.multiplyExact(denominator, other.denominator));
    }

    public Fraction times(long factor) {
        return times(of(factor));
    }

    public Fraction dividedBy(Fraction other) {
        return times(other.reciprocal());
    }

    public Fraction negate() {
        return new Fraction(Math.negateExact(numerator), denominator);
    }

    public Fraction reciprocal() {
        return of(denominator, numerator);
    }

    public Fraction abs() {
        return numerator < 0 ? negate() : this;
    }

    /** Raises to a power, which may be negative. */
    public Fraction pow(int exponent) {
        Fraction base = exponent < 0 ? reciprocal() : this;
        Fraction result = ONE;
        for (int i = 0; i < Math.abs(exponent); i++) {
            result = result.times(base);
        }
        return result;
    }

    public boolean isWhole() {
        return denominator == 1;
    }

    public int signum() {
        return Long.signum(numerator);
    }

    /** The greatest whole number that is not above the fraction. */
    public long floor() {
        return Math.floorDiv(numerator, denominator);
    }

    public double doubleValue() {
        return (double) numerator / denominator;
    }

    @Override
    public int compareTo(Fraction other) {
        return Long.compare(
                Math.multiplyExact(numerator, other.denominator),
                Math.multiplyExact(other.numerator, denominator));
    }

    @Override
    public boolean equals(Object object) {
        return object instanceof Fraction other
                && numerator == other.numerator
                && denominator == other.denominator;
    }

    @Override
    public int hashCode() {
        return Objects.hash(numerator, denominator);
    }

    @Override
    public String toString() {
        return isWhole() ? Long.toString(numerator) : numerator + "/" + denominator;
    }
}
