// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.collections;

import java.util.Arrays;
import java.util.Objects;
import java.util.function.LongBinaryOperator;

/** A row of bits of fixed length, kept in 64-bit words. */
public final class BitVector {

    private final int length;
    private final long[] words;

    public BitVector(int length) {
        if (length < 0) {
            throw new IllegalArgumentException("length must not be negative: " + length);
        }
        this.length = length;
        this.words = new long[(length + 63) / 64];
    }

    /** Parses text of zeros and ones; the first character is bit zero. */
    public static BitVector parse(String bits) {
        BitVector vector = new BitVector(bits.length());
        for (int i = 0; i < bits.length(); i++) {
            switch (bits.charAt(i)) {
                case '1' -> vector.set(i);
                case '0' -> { }
                default -> throw new IllegalArgumentException("not a bit: " + bits.charAt(i));
            }
        }
        return vector;
    }

    public int length() {
        return length;
    }

    public boolean get(int index) {
        Objects.checkIndex(index, length);
        return (words[index >> 6] & (1L << index)) != 0;
    }

    public void set(int index) {
        Objects.checkIndex(index, length);
        words[index >> 6] |= 1L << index;
    }

    /** Sets or clears one bit. */
    public void set(int index, boolean value) {
        if (value) {
            set(index);
        } else {
            clear(index);
        }
    }

    public void clear(int index) {
        Objects.checkIndex(index, length);
        words[index >> 6] &= ~(1L << index);
    }

    public void flip(int index) {
        Objects.checkIndex(index, length);
        words[index >> 6] ^= 1L << index;
    }

    /** The number of bits that are set. */
    public int cardinality() {
        int count = 0;
        for (long word : words) {
            count += Long.bitCount(word);
        }
        return count;
    }

    /** The first set bit at or after the index, or -1. */
    public int nextSetBit(int from) {
        for (int i = Math.max(0, from); i < length; i++) {
            if (get(i)) {
                return i;
            }
        }
        return -1;
    }

    public BitVector and(BitVector other) {
        return combine(other, (a, b) -> a & b);
    }

    public BitVector or(BitVector other) {
        return combine(other, (a, b) -> a | b);
    }

    public BitVector xor(BitVector other) {
        return combine(other, (a, b) -> a ^ b);
    }

    private BitVector combine(BitVector other, LongBinaryOperator operator) {
        if (length != other.length) {
            throw new IllegalArgumentException("lengths differ: " + length + " and " + other.length);
        }
        BitVector result = new BitVector(length);
        for (int i = 0; i < words.length; i++) {
            result.words[i] = operator.applyAsLong(words[i], other.words[i]);
        }
        return result;
    }

    public boolean isEmpty() {
        return cardinality() == 0;
    }

    /** The indices of the set bits. */
    public int[] toIndices() {
        int[] indices = new int[cardinality()];
        int next = 0;
        for (int i = nextSetBit(0); i >= 0; i = nextSetBit(i + 1)) {
            indices[next++] = i;
        }
        return indices;
    }

    @Override
    public boolean equals(Object object) {
        return object instanceof BitVector other
                && length == other.length
                && Arrays.equals(words, other.words);
    }

    @Override
    public int hashCode() {
        return 31 * length + Arrays.hashCode(words);
    }

    @Override
    public String toString() {
        StringBuilder text = new StringBuilder(length);
        for (int i = 0; i < length; i++) {
            text.append(get(i) ? '1' : '0');
        }
        return text.toString();
    }
}
