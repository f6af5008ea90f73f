// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class TextWrapperTest {

    private TextWrapper wrapper;

    @BeforeEach
    void setUp() {
        wrapper = new TextWrapper(10);
    }

    @Test
    void wrapsAtSpaces() {
        List<String> lines = wrapper.wrap("the quick brown fox");
        assertEquals(List.of("the quick", "brown fox"), lines);
        assertEquals(2, lines.size());
        assertEquals(List.of("exactly_10"), wrapper.wrap("exactly_10"));
    }

    @Test
    void cutsLongWords() {
        assertEquals(List.of("abcdefghij", "klm"), wrapper.wrap("abcdefghijklm"));
        assertEquals(List.of("a", "abcdefghij", "k b"), wrapper.wrap("a abcdefghijk b"));
        assertEquals(List.of(), wrapper.wrap("   "));
    }

    @Test
    void wrapsWithPrefix() {
        String comment = wrapper.wrap("one two three four", "// ");
        assertEquals("// one two\n// three four", comment);
        assertEquals("", wrapper.wrap("", "> "));
        assertEquals("> (\"a\")", wrapper.wrap("(\"a\")", "> "));
    }

    @Test
    void centers() {
        assertEquals("   abcd   ", wrapper.center("abcd"));
        assertEquals("***abc****", wrapper.center("abc", '*'));
        assertEquals("longer than ten", wrapper.center("longer than ten"));
    }

    @Test
    void alignsToBothSides() {
        assertEquals("        42", wrapper.alignRight("42"));
        assertEquals("42        ", wrapper.alignLeft("42"));
        assertEquals(wrapper.getWidth(), wrapper.alignLeft("x").length());
    }

    @Test
    void truncates() {
        assertEquals("abcdefg...", wrapper.truncate("abcdefghijklm"));
        assertEquals("short", wrapper.truncate("short"));
        assertEquals("ab", new TextWrapper(2).truncate("abcd"));
        String text = "unchanged";
        assertSame(text, wrapper.truncate(text));
    }

    @Test
    void knowsWhatFits() {
        assertTrue(wrapper.fits("0123456789"));
        assertFalse(wrapper.fits("0123456789a"));
        assertFalse(wrapper.fits("a\nb"), "a line break never fits");
    }

    @Test
    void rejectsBadArguments() {
        assertThrows(IllegalArgumentException.class, () -> new TextWrapper(0));
        assertThrows(NullPointerException.class, () -> wrapper.wrap(null));
    }
}
