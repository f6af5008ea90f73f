// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.encoding;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;

class RunLengthTest {

    @Test
    void findsRuns() {
        List<RunLength.Run> runs = RunLength.runs("aab");
        assertEquals(2, runs.size());
        assertEquals(new RunLength.Run('a', 2), runs.get(0));
        assertEquals('b', runs.get(1).symbol());
        assertTrue(RunLength.runs("").isEmpty());
    }

    @Test
    void encodes() {
        assertEquals("3a1b2c", RunLength.encode("aaabcc"));
        assertEquals("", RunLength.encode(""));
        assertEquals("12x", RunLength.encode("x".repeat(12)));
        assertEquals("2(1\"2)", RunLength.encode("((\"))"));
    }

    @Test
    void encodesInShortForm() {
        assertEquals("3ab2c", RunLength.encode("aaabcc", true));
        assertEquals("abc", RunLength.encode("abc", true));
        assertEquals("1a1b1c", RunLength.encode("abc", false));
    }

    @Test
    void decodes() {
        assertEquals("aaabcc", RunLength.decode("3a1b2c"));
        assertEquals("aaabcc", RunLength.decode("3ab2c"));
        assertEquals(12, RunLength.decode("12x").length());
        assertEquals("", RunLength.decode(""));
    }

    @Test
    void decodesWhatItEncodes() {
        String picture = """
                ####....
                ##..##..
                """;
        String encoded = RunLength.encode(picture);
        assertEquals(picture, RunLength.decode(encoded));
        assertEquals("4#4.1\n2#2.2#2.1\n", encoded);
        assertNotSame(picture, RunLength.decode(encoded));
    }

    @Test
    void findsTheLongestRun() {
        assertEquals(new RunLength.Run('b', 3), RunLength.longest("aabbbcc"));
        assertEquals('a', RunLength.longest("aabb").symbol());
        assertNull(RunLength.longest(""));
        assertEquals("3b", RunLength.longest("abbb").toString());
    }

    @Test
    void measuresTheGain() {
        assertEquals(0.2, RunLength.ratio("a".repeat(15)), 1e-9);
        assertEquals(2.0, RunLength.ratio("abc"), 1e-9, "no runs, twice the length");
        assertThrows(IllegalArgumentException.class, () -> RunLength.ratio(""));
    }

    @Test
    void rejectsBadInput() {
        assertThrows(IllegalArgumentException.class, () -> RunLength.encode("a1"));
        assertThrows(IllegalArgumentException.class, () -> RunLength.decode("3a2"));
        assertThrows(IllegalArgumentException.class, () -> RunLength.decode("0a"));
        assertThrows(ArithmeticException.class, () -> RunLength.decode("99999999999a"));
        assertThrows(IllegalArgumentException.class, () -> new RunLength.Run('a', 0));
    }
}
