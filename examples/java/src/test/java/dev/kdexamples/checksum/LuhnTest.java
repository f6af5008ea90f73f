// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.checksum;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;

class LuhnTest {

    @Test
    @DisplayName("accepts numbers with the right check digit")
    void acceptsValidNumbers() {
        assertTrue(Luhn.isValid("79927398713"));
        assertTrue(Luhn.isValid("4111 1111 1111 1111"));
        assertTrue(Luhn.isValid("4111-1111-1111-1111"));
        assertTrue(Luhn.isValid(79927398713L));
    }

    @Test
    void rejectsInvalidNumbers() {
        assertFalse(Luhn.isValid("79927398710"));
        assertFalse(Luhn.isValid("4111 1111 1111 1112"), "wrong last digit");
        assertFalse(Luhn.isValid("0"));
        assertFalse(Luhn.isValid(""));
        assertFalse(Luhn.isValid(null));
        assertFalse(Luhn.isValid("12a4"));
        assertFalse(Luhn.isValid(-18L));
    }

    @Test
    void computesTheCheckDigit() {
        assertEquals(3, Luhn.checkDigit("7992739871"));
        assertEquals(0, Luhn.checkDigit("0000"));
        assertEquals(8, Luhn.checkDigit("1"));
        assertThrows(IllegalArgumentException.class, () -> Luhn.checkDigit(" - "));
        assertThrows(IllegalArgumentException.class, () -> Luhn.checkDigit("1.5"));
    }

    @Test
    void appendsTheCheckDigit() {
        String number = Luhn.append("411111 111111-111");
        assertEquals("4111111111111111", number);
        assertTrue(Luhn.isValid(number));
        for (int i = 1; i < 100; i++) {
            assertTrue(Luhn.isValid(Luhn.append(Integer.toString(i))), "number " + i);
        }
    }

    @Test
    void cleans() {
        assertEquals("1234", Luhn.clean("12 3-4"));
        assertEquals("", Luhn.clean(" "));
        assertNotNull(Luhn.clean("--"));
    }

    @Test
    void masks() {
        assertEquals("************1111", Luhn.mask("4111 1111 1111 1111"));
        assertEquals("**34", Luhn.mask("1234", 2));
        assertEquals("123", Luhn.mask("123", 5));
        assertEquals("***", Luhn.mask("123", 0));
        assertThrows(IllegalArgumentException.class, () -> Luhn.mask("123", -1));
    }
}
