// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.money;

import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.ArrayList;
import java.util.Currency;
import java.util.List;
import java.util.Objects;

/** An exact amount of money in one ISO 4217 currency, rounded to the minor unit of that currency. */
public final class Money implements Comparable<Money> {

    private final BigDecimal amount;
    private final Currency currency;

    private Money(BigDecimal amount, Currency currency) {
        this.amount = amount.setScale(currency.getDefaultFractionDigits(), RoundingMode.HALF_EVEN);
        this.currency = currency;
    }

    /** Creates an amount from decimal text such as {@code "12.50"}. */
    public static Money of(String amount, String currencyCode) {
        Objects.requireNonNull(amount, "amount");
        return of(new BigDecimal(amount.trim()), currencyCode);
    }

    /** Creates an amount from a decimal number. */
    public static Money of(BigDecimal amount, String currencyCode) {
        Objects.requireNonNull(amount, "amount");
        Objects.requireNonNull(currencyCode, "currencyCode");
        return new Money(amount, Currency.getInstance(currencyCode));
    }

    /** Creates an amount from a number of minor units, such as cents. */
    public static Money ofMinor(long minorUnits, String currencyCode) {
        Objects.requireNonNull(currencyCode, "currencyCode");
        Currency currency = Currency.getInstance(currencyCode);
        return new Money(BigDecimal.valueOf(minorUnits, currency.getDefaultFractionDigits()), currency);
    }

    /** The amount zero in the given currency. */
    public static Money zero(String currencyCode) {
        return ofMinor(0, currencyCode);
    }

    public BigDecimal getAmount() {
        return amount;
    }

    public String getCurrencyCode() {
        return currency.getCurrencyCode();
    }

    /** The amount as a number of minor units. */
    public long toMinor() {
        return amount.unscaledValue().longValueExact();
    }

    public Money plus(Money other) {
        requireSameCurrency(other);
        return new Money(amount.add(other.amount), currency);
    }

    public Money minus(Money other) {
        requireSameCurrency(other);
        return new Money(amount.subtract(other.amount), currency);
    }

    public Money times(int factor) {
        return new Money(amount.multiply(BigDecimal.valueOf(factor)), currency);
    }

    /** Multiplies by a decimal factor and rounds half to even. */
    public Money times(String factor) {
        return new Money(amount.multiply(new BigDecimal(factor)), currency);
    }

    public Money negate() {
        return new Money(amount.negate(), currency);
    }

    public Money abs() {
        return isNegative() ? negate() : this;
    }

    public boolean isZero() {
        return amount.signum() == 0;
    }

    public boolean isNegative() {
        return amount.signum() < 0;
    }

    public boolean isPositive() {
        return amount.signum() > 0;
    }

    /** Splits into equal parts; spare minor units go to the first parts, so that the sum is exact. */
    public List<Money> split(int parts) {
        if (parts < 1) {
            throw new IllegalArgumentException("parts must be at least 1: " + parts);
        }
        long total = toMinor();
        long base = total / parts;
        long spare = Math.abs(total % parts);
        long step = total < 0 ? -1 : 1;
        List<Money> result = new ArrayList<>(parts);
        for (int i = 0; i < parts; i++) {
            result.add(ofMinor(i < spare ? base + step : base, getCurrencyCode()));
        }
        return result;
    }

    private void requireSameCurrency(Money other) {
        Objects.requireNonNull(other, "other");
        if (!currency.equals(other.currency)) {
            throw new IllegalArgumentException(
                    "currencies differ: " + getCurrencyCode() + " and " + other.getCurrencyCode());
        }
    }

    @Override
    public int compareTo(Money other) {
        requireSameCurrency(other);
        return amount.compareTo(other.amount);
    }

    @Override
    public boolean equals(Object object) {
        return object instanceof Money other
                && amount.equals(other.amount)
                && currency.equals(other.currency);
    }

    @Override
    public int hashCode() {
        return Objects.hash(amount, currency);
    }

    @Override
    public String toString() {
        return currency.getCurrencyCode() + " " + amount.toPlainString();
    }
}
