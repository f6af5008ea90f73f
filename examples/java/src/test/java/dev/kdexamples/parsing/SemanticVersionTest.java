// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import static org.hamcrest.MatcherAssert.assertThat;
import static org.hamcrest.Matchers.equalTo;
import static org.hamcrest.Matchers.greaterThan;
import static org.hamcrest.Matchers.is;
import static org.hamcrest.Matchers.lessThan;
import static org.hamcrest.Matchers.not;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;

class SemanticVersionTest {

    @Test
    void parses() {
        SemanticVersion version = SemanticVersion.parse("1.4.12-rc.1");
        assertThat(version.major(), is(1));
        assertThat(version.minor(), is(4));
        assertThat(version.patch(), is(12));
        assertThat(version.label(), equalTo("rc.1"));
        assertThat(version.toString(), is("1.4.12-rc.1"));
    }

    @Test
    void acceptsALeadingLetter() {
        assertThat(SemanticVersion.parse("v2.0.0"), is(new SemanticVersion(2, 0, 0)));
        assertThat(SemanticVersion.isValid("v2.0.0"), is(false));
    }

    @Test
    void checksText() {
        assertThat(SemanticVersion.isValid("0.0.1"), is(true));
        assertThat(SemanticVersion.isValid("01.0.0"), is(false));
        assertThat(SemanticVersion.isValid("1.0"), is(false));
        assertThat(SemanticVersion.isValid("1.0.0-a..b"), is(false));
        assertThat(SemanticVersion.isValid(null), is(not(true)));
    }

    @Test
    void goesUp() {
        SemanticVersion version = new SemanticVersion(1, 2, 3);
        assertThat(version.nextMajor(), is(new SemanticVersion(2, 0, 0)));
        assertThat(version.nextMinor(), is(new SemanticVersion(1, 3, 0)));
        assertThat(version.nextPatch(), is(new SemanticVersion(1, 2, 4)));
        assertThat(SemanticVersion.parse("1.2.3-beta").nextPatch(), equalTo(version));
    }

    @Test
    void comparesNumbers() {
        SemanticVersion older = SemanticVersion.parse("1.9.0");
        SemanticVersion newer = SemanticVersion.parse("1.10.0");
        assertThat(newer, greaterThan(older));
        assertThat(older, lessThan(newer));
        assertThat(newer.isNewerThan(older), is(true));
        assertThat(newer.isNewerThan(newer), is(false));
    }

    @Test
    void comparesLabels() {
        String[] ordered = {
            "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0"
        };
        for (int i = 1; i < ordered.length; i++) {
            SemanticVersion before = SemanticVersion.parse(ordered[i - 1]);
            SemanticVersion after = SemanticVersion.parse(ordered[i]);
            assertThat(ordered[i], after.compareTo(before), greaterThan(0));
            assertThat(before.isNewerThan(after), is(false));
        }
    }

    @Test
    void knowsStability() {
        assertThat(SemanticVersion.parse("1.0.0").isStable(), is(true));
        assertThat(SemanticVersion.parse("0.9.0").isStable(), is(false));
        assertThat(SemanticVersion.parse("1.0.0-rc").isStable(), is(false));
        assertThat(SemanticVersion.parse("1.0.0-rc").isPreRelease(), is(true));
    }

    @Test
    void knowsCompatibility() {
        SemanticVersion required = SemanticVersion.parse("1.4.0");
        assertThat(SemanticVersion.parse("1.5.2").isCompatibleWith(required), is(true));
        assertThat(SemanticVersion.parse("1.3.9").isCompatibleWith(required), is(false));
        assertThat(SemanticVersion.parse("2.0.0").isCompatibleWith(required), is(false));
        SemanticVersion early = SemanticVersion.parse("0.2.0");
        assertThat(early.isCompatibleWith(SemanticVersion.parse("0.1.0")), is(false));
    }

    @Test
    void rejectsBadArguments() {
        assertThrows(IllegalArgumentException.class, () -> SemanticVersion.parse("1.x.0"));
        assertThrows(IllegalArgumentException.class, () -> new SemanticVersion(1, -1, 0));
        assertThrows(NullPointerException.class, () -> new SemanticVersion(1, 0, 0, null));
    }
}
