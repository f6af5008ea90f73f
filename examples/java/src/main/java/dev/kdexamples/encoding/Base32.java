// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.encoding;

import java.nio.charset.StandardCharsets;
import java.util.Locale;

/** Base 32 after RFC 4648, with or without padding. */
public final class Base32 {

    private static final String ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

    private Base32() {
    }

    /** Encodes bytes with padding. */
    public static String encode(byte[] data) {
        String plain = encodeUnpadded(data);
        return plain + "=".repeat((8 - plain.length() % 8) % 8);
    }

    /** Encodes the UTF-8 bytes of text with padding. */
    public static String encode(String text) {
        return encode(text.getBytes(StandardCharsets.UTF_8));
    }

    /** Encodes bytes without padding. */
    public static String encodeUnpadded(byte[] data) {
        StringBuilder out = new StringBuilder();
        int buffer = 0;
        int bits = 0;
        for (byte b : data) {
            buffer = (buffer << 8) | (b & 0xff);
            bits += 8;
            while (bits >= 5) {
                bits -= 5;
                out.append(ALPHABET.charAt((buffer >> bits) & 31));
            }
            buffer &= (1 << bits) - 1;
        }
        if (bits > 0) {
            out.append(ALPHABET.charAt((buffer << (5 - bits)) & 31));
        }
        return out.toString();
    }

    /** Decodes text in capitals or small letters; padding may be left out. */
    public static byte[] decode(String encoded) {
        String plain = stripPadding(encoded).toUpperCase(Locale.ROOT);
        if (!isPossibleLength(plain.length())) {
            throw new IllegalArgumentException("not a possible length: " + plain.length());
        }
        byte[] data = new byte[plain.length() * 5 / 8];
        int buffer = 0;
        int bits = 0;
        int next = 0;
        for (int i = 0; i < plain.length(); i++) {
            int value = ALPHABET.indexOf(plain.charAt(i));
            if (value < 0) {
                throw new IllegalArgumentException("not in the alphabet: " + plain.charAt(i));
            }
            buffer = (buffer << 5) | value;
            bits += 5;
            if (bits >= 8) {
                bits -= 8;
                data[next++] = (byte) (buffer >> bits);
                buffer &= (1 << bits) - 1;
            }
        }
        return data;
    }

    /** Decodes to text in UTF-8. */
    public static String decodeToString(String encoded) {
        return new String(decode(encoded), StandardCharsets.UTF_8);
    }

    /** Whether the text can be decoded. */
    public static boolean isValid(String encoded) {
        if (encoded == null) {
            return false;
        }
        String plain = stripPadding(encoded).toUpperCase(Locale.ROOT);
        return isPossibleLength(plain.length()) && plain.chars().allMatch(c -> ALPHABET.indexOf(c) >= 0);
    }

    /** The length of the padded encoding of a number of bytes. */
    public static int encodedLength(int bytes) {
        if (bytes < 0) {
            throw new IllegalArgumentException("number of bytes must not be negative: " + bytes);
        }
        return (bytes + 4) / 5 * 8;
    }

    private static String stripPadding(String encoded) {
        int end = encoded.length();
        while (end > 0 && encoded.charAt(end - 1) == '=') {
            end--;
        }
        return encoded.substring(0, end);
    }

    private static boolean isPossibleLength(int length) {
        return switch (length % 8) {
            case 1, 3, 6 -> false;
            default -> true;
        };
    }
}
