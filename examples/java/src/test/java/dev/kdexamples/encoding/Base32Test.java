// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.encoding;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import org.junit.jupiter.api.Test;

class Base32Test {

    @Test
    void encodesTheStandardVectors() {
        assertEquals("", Base32.encode(""));
        assertEquals("MY======", Base32.encode("f"));
        assertEquals("MZXQ====", Base32.encode("fo"));
        assertEquals("MZXW6===", Base32.encode("foo"));
        assertEquals("MZXW6YQ=", Base32.encode("foob"));
        assertEquals("MZXW6YTB", Base32.encode("fooba"));
        assertEquals("MZXW6YTBOI======", Base32.encode("foobar"));
    }

    @Test
    void encodesBytes() {
        byte[] data = {(byte) 0xff, 0, (byte) 0x80};
        assertEquals("74AIA===", Base32.encode(data));
        assertEquals("74AIA", Base32.encodeUnpadded(data));
        assertEquals("", Base32.encodeUnpadded(new byte[0]));
    }

    @Test
    void decodes() {
        assertArrayEquals(new byte[] {'f', 'o', 'o'}, Base32.decode("MZXW6==="));
        assertArrayEquals(new byte[] {'f'}, Base32.decode("my"));
        assertArrayEquals(new byte[0], Base32.decode(""));
        assertEquals("foobar", Base32.decodeToString("MZXW6YTBOI"));
    }

    @Test
    void decodesWhatItEncodes() {
        String text = "na\u00efve (\"quoted\") \u2713";
        String encoded = Base32.encode(text);
        String decoded = Base32.decodeToString(encoded);
        assertEquals(text, decoded);
        assertNotEquals(text, encoded);
        assertTrue(Base32.isValid(encoded));
    }

    @Test
    void decodesArraysOfAnyLength() {
        for (int length = 0; length < 20; length++) {
            byte[] data = new byte[length];
            Arrays.fill(data, (byte) (length * 11));
            assertArrayEquals(data, Base32.decode(Base32.encode(data)));
            assertEquals(Base32.encodedLength(length), Base32.encode(data).length());
        }
    }

    @Test
    void checksText() {
        assertTrue(Base32.isValid("MZXW6YTB"));
        assertTrue(Base32.isValid("mzxw6==="));
        assertFalse(Base32.isValid("M"));
        assertFalse(Base32.isValid("M1======"));
        assertFalse(Base32.isValid(null));
    }

    @Test
    void predictsLength() {
        assertEquals(0, Base32.encodedLength(0));
        assertEquals(8, Base32.encodedLength(5));
        assertEquals(16, Base32.encodedLength(6));
        assertThrows(IllegalArgumentException.class, () -> Base32.encodedLength(-1));
    }

    @Test
    void rejectsBadText() {
        assertThrows(IllegalArgumentException.class, () -> Base32.decode("ABC"));
        assertThrows(IllegalArgumentException.class, () -> Base32.decode("A8======"));
        assertThrows(NullPointerException.class, () -> Base32.decode(null));
    }
}
