// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.checksum;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class Crc16Test {

    private static final String CHECK = "123456789";

    @Test
    void computesTheStandardCheck() {
        assertEquals(0x29B1, Crc16.of(CHECK));
        assertEquals(0x29B1, Crc16.of(CHECK.getBytes(StandardCharsets.US_ASCII)));
        assertEquals(0xFFFF, Crc16.of(""));
    }

    @Test
    void startsFromAGivenValue() {
        byte[] data = CHECK.getBytes(StandardCharsets.US_ASCII);
        Crc16 zero = new Crc16(0);
        assertEquals(0x31C3, zero.update(data).getValue());
        assertNotEquals(Crc16.of(data), zero.getValue());
    }

    @Test
    void takesPieces() {
        Crc16 crc = new Crc16();
        crc.update((byte) '1');
        crc.update(new byte[] {'2', '3', '4'});
        crc.update("xx56789yy".getBytes(StandardCharsets.US_ASCII), 2, 5);
        assertEquals(Crc16.of(CHECK), crc.getValue());
        assertEquals(9L, crc.getLength());
    }

    @Test
    void returnsItself() {
        Crc16 crc = new Crc16();
        assertSame(crc, crc.update((byte) 1));
        assertSame(crc, crc.update(new byte[] {1}));
        assertNotSame(crc, new Crc16());
    }

    @Test
    void resets() {
        Crc16 crc = new Crc16(7);
        crc.update((byte) 42);
        assertNotEquals(7, crc.getValue());
        crc.reset();
        assertEquals(7, crc.getValue());
        assertEquals(0L, crc.getLength());
    }

    @Test
    void formats() {
        Crc16 crc = new Crc16().update(CHECK.getBytes(StandardCharsets.US_ASCII));
        assertEquals("29B1", crc.toHex());
        assertArrayEquals(new byte[] {0x29, (byte) 0xB1}, crc.toBytes());
        assertEquals("000A", new Crc16(10).toHex());
    }

    @Test
    void noticesChanges() {
        byte[] data = {1, 2, 3};
        int check = Crc16.of(data);
        assertTrue(Crc16.matches(data, check));
        data[1] = 9;
        assertFalse(Crc16.matches(data, check), "one byte has changed");
    }

    @Test
    void endsInZeroAfterItsOwnCheck() {
        Crc16 crc = new Crc16().update(new byte[] {5, 6, 7, 8});
        byte[] own = crc.toBytes();
        int value = crc.update(own).getValue();
        assertEquals(0, value);
    }

    @Test
    void rejectsBadArguments() {
        Crc16 crc = new Crc16();
        assertThrows(IllegalArgumentException.class, () -> new Crc16(0x10000));
        assertThrows(IllegalArgumentException.class, () -> new Crc16(-1));
        assertThrows(IndexOutOfBoundsException.class, () -> crc.update(new byte[3], 2, 2));
    }
}
