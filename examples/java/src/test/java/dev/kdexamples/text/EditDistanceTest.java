// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.text;

import static org.hamcrest.MatcherAssert.assertThat;
import static org.hamcrest.Matchers.closeTo;
import static org.hamcrest.Matchers.contains;
import static org.hamcrest.Matchers.empty;
import static org.hamcrest.Matchers.equalTo;
import static org.hamcrest.Matchers.greaterThan;
import static org.hamcrest.Matchers.hasItem;
import static org.hamcrest.Matchers.hasSize;
import static org.hamcrest.Matchers.is;
import static org.hamcrest.Matchers.lessThan;
import static org.hamcrest.Matchers.not;
import static org.hamcrest.Matchers.notNullValue;
import static org.hamcrest.Matchers.nullValue;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import org.junit.jupiter.api.Test;

class EditDistanceTest {

    private static final List<String> COMMANDS = List.of("commit", "push", "pull", "status");

    @Test
    void measuresEdits() {
        assertThat(EditDistance.levenshtein("kitten", "sitting"), is(3));
        assertThat(EditDistance.levenshtein("", "abc"), is(3));
        assertThat(EditDistance.levenshtein("same", "same"), equalTo(0));
        assertThat("symmetry", EditDistance.levenshtein("flaw", "lawn"),
                is(EditDistance.levenshtein("lawn", "flaw")));
    }

    @Test
    void mayIgnoreCase() {
        assertThat(EditDistance.levenshtein("ABC", "abd", true), is(1));
        assertThat(EditDistance.levenshtein("ABC", "abd", false), is(3));
    }

    @Test
    void countsDifferingPlaces() {
        assertThat(EditDistance.hamming("karolin", "kathrin"), is(3));
        assertThat(EditDistance.hamming("", ""), is(0));
        assertThrows(IllegalArgumentException.class, () -> EditDistance.hamming("a", "ab"));
    }

    @Test
    void turnsDistanceIntoSimilarity() {
        double none = EditDistance.similarity("abc", "xyz");
        assertThat(none, closeTo(0.0, 1e-12));
        assertThat(EditDistance.similarity("abcd", "abce"), closeTo(0.75, 1e-12));
        assertThat(EditDistance.similarity("", ""), is(1.0));
        assertThat(EditDistance.similarity("night", "nacht"), greaterThan(0.5));
        assertThat(EditDistance.similarity("night", "day"), lessThan(0.5));
    }

    @Test
    void checksALimit() {
        assertThat(EditDistance.isWithin("push", "pull", 2), is(true));
        assertThat(EditDistance.isWithin("push", "pull", 1), is(false));
        assertThat(EditDistance.isWithin("a", "abcdef", 2), is(not(true)));
        assertThrows(IllegalArgumentException.class, () -> EditDistance.isWithin("a", "b", -1));
    }

    @Test
    void findsTheClosestWord() {
        assertThat(EditDistance.closest("comit", COMMANDS), is("commit"));
        assertThat(EditDistance.closest("pul", COMMANDS), equalTo("pull"));
        assertThat(EditDistance.closest("x", List.of()), nullValue());
        assertThat(EditDistance.closest("statsu", COMMANDS), is(notNullValue()));
    }

    @Test
    void suggestsSeveralWords() {
        List<String> found = EditDistance.suggestions("puls", COMMANDS, 2);
        assertThat(found, hasSize(2));
        assertThat(found, hasItem("pull"));
        assertThat(found, contains("push", "pull"));
        assertThat(EditDistance.suggestions("unrelated", COMMANDS, 1), is(empty()));
    }
}
