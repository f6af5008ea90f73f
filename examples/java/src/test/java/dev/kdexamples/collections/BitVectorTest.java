// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.collections;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class BitVectorTest {

    @Test
    void setsAndClears() {
        BitVector bits = new BitVector(70);
        bits.set(0);
        bits.set(69);
        assertTrue(bits.get(0));
        assertTrue(bits.get(69));
        assertFalse(bits.get(5));
        bits.clear(69);
        assertFalse(bits.get(69));
        bits.set(5, true);
        bits.set(0, false);
        assertEquals(1, bits.cardinality());
    }

    @Test
    void flips() {
        BitVector bits = new BitVector(2);
        bits.flip(1);
        assertTrue(bits.get(1));
        bits.flip(1);
        assertFalse(bits.get(1));
        assertTrue(bits.isEmpty());
    }

    @Test
    void parsesAndPrints() {
        BitVector bits = BitVector.parse("01101");
        assertEquals("01101", bits.toString());
        assertEquals(5, bits.length());
        assertEquals(3, bits.cardinality());
        assertEquals("", BitVector.parse("").toString());
        assertArrayEquals(new int[] {1, 2, 4}, bits.toIndices());
    }

    @Test
    void findsSetBits() {
        BitVector bits = BitVector.parse("0010010");
        assertEquals(2, bits.nextSetBit(0));
        assertEquals(2, bits.nextSetBit(2));
        assertEquals(5, bits.nextSetBit(3));
        assertEquals(-1, bits.nextSetBit(6));
    }

    @Test
    void combines() {
        BitVector left = BitVector.parse("1100");
        BitVector right = BitVector.parse("1010");
        assertEquals(BitVector.parse("1000"), left.and(right));
        assertEquals(BitVector.parse("1110"), left.or(right));
        assertEquals(BitVector.parse("0110"), left.xor(right));
        assertTrue(left.xor(left).isEmpty());
        assertNotSame(left, left.or(left));
        assertEquals(left, left.or(left));
    }

    @Test
    void comparesByContent() {
        BitVector bits = BitVector.parse("10");
        assertEquals(bits, BitVector.parse("10"));
        assertEquals(bits.hashCode(), BitVector.parse("10").hashCode());
        assertNotEquals(bits, BitVector.parse("100"));
        assertNotEquals(bits, BitVector.parse("01"));
        assertFalse(bits.equals("10"));
    }

    @Test
    void rejectsBadArguments() {
        BitVector bits = new BitVector(4);
        assertThrows(IndexOutOfBoundsException.class, () -> bits.get(4));
        assertThrows(IndexOutOfBoundsException.class, () -> bits.set(-1));
        assertThrows(IllegalArgumentException.class, () -> BitVector.parse("012"));
        assertThrows(IllegalArgumentException.class, () -> new BitVector(-1));
        assertThrows(IllegalArgumentException.class, () -> bits.and(new BitVector(5)));
    }
}
