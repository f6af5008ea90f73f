// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class RomanNumeralsTest {

    @Test
    void formats() {
        assertEquals("I", RomanNumerals.format(1));
        assertEquals("IV", RomanNumerals.format(4));
        assertEquals("XLIX", RomanNumerals.format(49));
        assertEquals("MCMXCIV", RomanNumerals.format(1994));
        assertEquals("MMMCMXCIX", RomanNumerals.format(RomanNumerals.MAX));
    }

    @Test
    void formatsInSmallLetters() {
        assertEquals("xii", RomanNumerals.format(12, true));
        assertEquals("XII", RomanNumerals.format(12, false));
    }

    @Test
    void parses() {
        assertEquals(14, RomanNumerals.parse("XIV"));
        assertEquals(14, RomanNumerals.parse(" xiv "));
        assertEquals(2024, RomanNumerals.parse("MMXXIV"));
        assertEquals(444, RomanNumerals.parse("CDXLIV"));
    }

    @Test
    void checksText() {
        assertTrue(RomanNumerals.isValid("IX"));
        assertFalse(RomanNumerals.isValid("IIII"));
        assertFalse(RomanNumerals.isValid("IC"));
        assertFalse(RomanNumerals.isValid(""));
        assertFalse(RomanNumerals.isValid(null));
    }

    @Test
    void knowsLetters() {
        assertEquals(50, RomanNumerals.valueOf('L'));
        assertEquals(1000, RomanNumerals.valueOf('M'));
        assertThrows(IllegalArgumentException.class, () -> RomanNumerals.valueOf('Z'));
    }

    @Test
    void calculates() {
        assertEquals("XX", RomanNumerals.add("XI", "IX"));
        assertEquals(-1, RomanNumerals.compare("IX", "X"));
        assertEquals(0, RomanNumerals.compare("c", "C"));
        assertTrue(RomanNumerals.compare("M", "D") > 0);
    }

    @Test
    void convertsAllNumbersThereAndBack() {
        for (int number = 1; number <= RomanNumerals.MAX; number++) {
            assertEquals(number, RomanNumerals.parse(RomanNumerals.format(number)));
        }
    }

    @Test
    void rejectsWhatCannotBeWritten() {
        assertThrows(IllegalArgumentException.class, () -> RomanNumerals.format(0));
        assertThrows(IllegalArgumentException.class, () -> RomanNumerals.format(4000));
        assertThrows(IllegalArgumentException.class, () -> RomanNumerals.add("MMM", "M"));
        assertThrows(NullPointerException.class, () -> RomanNumerals.parse(null));
    }
}
