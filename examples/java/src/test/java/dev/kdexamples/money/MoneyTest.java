// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.money;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertIterableEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.math.BigDecimal;
import java.util.List;
import org.junit.jupiter.api.Test;

class MoneyTest {

    @Test
    void createsFromText() {
        Money price = Money.of("12.50", "EUR");
        assertEquals("EUR", price.getCurrencyCode());
        assertEquals(new BigDecimal("12.50"), price.getAmount());
        assertEquals(1250L, price.toMinor());
        assertEquals("EUR 12.50", price.toString());
    }

    @Test
    void roundsHalfToEven() {
        assertEquals(Money.of("0.12", "EUR"), Money.of("0.125", "EUR"));
        assertEquals(Money.of("0.14", "EUR"), Money.of("0.135", "EUR"));
        assertEquals("JPY 3", Money.of("2.6", "JPY").toString(), "yen have no minor unit");
    }

    @Test
    void addsAndSubtracts() {
        Money price = Money.of("19.99", "USD");
        Money shipping = Money.of("4.01", "USD");
        assertEquals(Money.of("24.00", "USD"), price.plus(shipping));
        assertEquals(Money.of("15.98", "USD"), price.minus(shipping));
        assertEquals(Money.ofMinor(1999, "USD"), price);
    }

    @Test
    void multiplies() {
        Money price = Money.of("2.35", "EUR");
        assertEquals(Money.of("7.05", "EUR"), price.times(3));
        assertEquals(Money.of("2.80", "EUR"), price.times("1.19"));
        assertTrue(price.times(0).isZero());
    }

    @Test
    void knowsItsSign() {
        Money debt = Money.of("-3", "EUR");
        assertTrue(debt.isNegative());
        assertFalse(debt.isPositive());
        assertEquals(Money.of("3", "EUR"), debt.abs());
        assertEquals(debt, debt.negate().negate());
        assertFalse(Money.zero("EUR").isNegative());
        Money credit = debt.negate();
        assertSame(credit, credit.abs());
    }

    @Test
    void splitsWithoutLoss() {
        Money bill = Money.of("10.00", "EUR");
        List<Money> parts = bill.split(3);
        assertEquals(3, parts.size());
        assertEquals(Money.of("3.34", "EUR"), parts.get(0));
        assertEquals(Money.of("3.33", "EUR"), parts.get(2));
        assertIterableEquals(List.of(Money.ofMinor(-2, "EUR"), Money.ofMinor(-1, "EUR")),
                Money.ofMinor(-3, "EUR").split(2));
    }

    @Test
    void rejectsMixedCurrencies() {
        Money euros = Money.of("1", "EUR");
        Money dollars = Money.of("1", "USD");
        assertNotEquals(euros, dollars);
        assertThrows(IllegalArgumentException.class, () -> euros.plus(dollars));
        assertThrows(IllegalArgumentException.class, () -> euros.compareTo(dollars));
        IllegalArgumentException error =
                assertThrows(IllegalArgumentException.class, () -> euros.minus(dollars));
        assertEquals("currencies differ: EUR and USD", error.getMessage());
    }

    @Test
    void rejectsBadArguments() {
        assertThrows(IllegalArgumentException.class, () -> Money.of("1", "XYZ1"));
        assertThrows(NumberFormatException.class, () -> Money.of("one", "EUR"));
        assertThrows(IllegalArgumentException.class, () -> Money.zero("EUR").split(0));
        assertThrows(NullPointerException.class, () -> Money.of((String) null, "EUR"));
    }

    @Test
    void ordersByAmount() {
        Money less = Money.of("1.00", "EUR");
        Money more = Money.of("1.01", "EUR");
        assertTrue(less.compareTo(more) < 0);
        assertEquals(0, less.compareTo(Money.of("1", "EUR")));
        assertEquals(less.hashCode(), Money.of("1", "EUR").hashCode());
    }
}
