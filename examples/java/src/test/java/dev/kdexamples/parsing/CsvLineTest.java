// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertIterableEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

class CsvLineTest {

    @Test
    void splitsAtCommas() {
        List<String> fields = CsvLine.parse("a,b,,d");
        assertEquals(List.of("a", "b", "", "d"), fields);
        assertEquals(4, CsvLine.count("a,b,,d"));
        assertEquals(List.of(""), CsvLine.parse(""));
        assertEquals(List.of("", ""), CsvLine.parse(","));
    }

    @Test
    void readsQuotedFields() {
        assertEquals(List.of("a,b", "c"), CsvLine.parse("\"a,b\",c"));
        assertEquals(List.of("say \"hi\"", "(ok)"), CsvLine.parse("\"say \"\"hi\"\"\",(ok)"));
        assertEquals(List.of("", "x"), CsvLine.parse("\"\",x"));
        assertEquals(1, CsvLine.count("\"a,b,c\""));
    }

    @Test
    void readsOtherSeparators() {
        assertEquals(List.of("1,5", "2,5"), CsvLine.parse("1,5;2,5", ';'));
        assertEquals(List.of("a", "b"), CsvLine.parse("a\tb", '\t'));
    }

    @Test
    void writesPlainFields() {
        assertEquals("a,b", CsvLine.format(List.of("a", "b")));
        assertEquals("a|b,c", CsvLine.format(List.of("a", "b,c"), '|'));
        assertEquals("", CsvLine.format(List.of()));
    }

    @Test
    void quotesWhereNeeded() {
        assertEquals("\"a,b\",c", CsvLine.format(List.of("a,b", "c")));
        assertEquals("\"\"\"\"", CsvLine.quote("\"", ','));
        assertEquals("", CsvLine.quote(null, ','));
        assertTrue(CsvLine.needsQuotes("line\nbreak", ','));
        assertFalse(CsvLine.needsQuotes("a;b", ','));
        assertTrue(CsvLine.needsQuotes("a;b", ';'));
    }

    @Test
    void readsWhatItWrites() {
        List<String> fields = Arrays.asList("plain", "with, comma", "with \"quote\"", "caf\u00e9", " ");
        String line = CsvLine.format(fields);
        List<String> back = CsvLine.parse(line);
        assertEquals(fields, back);
        assertIterableEquals(fields, CsvLine.parse(line));
    }

    @Test
    void rejectsBadInput() {
        assertThrows(IllegalArgumentException.class, () -> CsvLine.parse("\"open"));
        assertThrows(NullPointerException.class, () -> CsvLine.parse(null));
        assertThrows(IllegalArgumentException.class, () -> CsvLine.parse("a", '"'));
        assertThrows(IllegalArgumentException.class, () -> CsvLine.format(List.of("a"), '\n'));
        assertDoesNotThrow(() -> CsvLine.parse("a\"b"));
    }
}
