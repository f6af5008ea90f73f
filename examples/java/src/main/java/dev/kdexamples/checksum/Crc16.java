// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.checksum;

import java.nio.charset.StandardCharsets;
import java.util.Objects;

/** A 16-bit cyclic redundancy check (CCITT polynomial 0x1021) that takes its input in pieces. */
public final class Crc16 {

    private static final int POLYNOMIAL = 0x1021;

    private final int initial;
    private int value;
    private long length;

    /** A check that starts from 0xFFFF. */
    public Crc16() {
        this(0xFFFF);
    }

    public Crc16(int initial) {
        if (initial < 0 || initial > 0xFFFF) {
            throw new IllegalArgumentException("not a 16-bit number: " + initial);
        }
        this.initial = initial;
        this.value = initial;
    }

    /** The check of some bytes. */
    public static int of(byte[] data) {
        return new Crc16().update(data).getValue();
    }

    /** The check of the UTF-8 bytes of text. */
    public static int of(String text) {
        return of(text.getBytes(StandardCharsets.UTF_8));
    }

    /** Whether the bytes have the expected check. */
    public static boolean matches(byte[] data, int expected) {
        return of(data) == expected;
    }

    public Crc16 update(byte b) {
        value ^= (b & 0xFF) << 8;
        for (int bit = 0; bit < 8; bit++) {
            boolean carry = (value & 0x8000) != 0;
            value = (value << 1) & 0xFFFF;
            if (carry) {
                value ^= POLYNOMIAL;
            }
        }
        length++;
        return this;
    }

    public Crc16 update(byte[] data) {
        return update(data, 0, data.length);
    }

    /** Adds a part of an array. */
    public Crc16 update(byte[] data, int offset, int count) {
        Objects.checkFromIndexSize(offset, count, data.length);
        for (int i = offset; i < offset + count; i++) {
            update(data[i]);
        }
        return this;
    }

    public int getValue() {
        return value;
    }

    /** How many bytes were added. */
    public long getLength() {
        return length;
    }

    /** Starts again. */
    public void reset() {
        value = initial;
        length = 0;
    }

    /** The check as four hexadecimal digits. */
    public String toHex() {
        return String.format("%04X", value);
    }

    /** The check as two bytes, the higher first. */
    public byte[] toBytes() {
        return new byte[] {(byte) (value >> 8), (byte) value};
    }
}
