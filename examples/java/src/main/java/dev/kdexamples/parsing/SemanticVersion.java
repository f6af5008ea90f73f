// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import java.util.Comparator;
import java.util.Objects;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A version of three numbers and an optional pre-release label, as in {@code 1.4.0-rc.1}. */
public record SemanticVersion(int major, int minor, int patch, String label)
        implements Comparable<SemanticVersion> {

    private static final Pattern FORMAT = Pattern.compile(
            "(0|[1-9]\\d*)\\.(0|[1-9]\\d*)\\.(0|[1-9]\\d*)(?:-([0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*))?");

    public SemanticVersion {
        if (major < 0 || minor < 0 || patch < 0) {
            throw new IllegalArgumentException("numbers must not be negative");
        }
        Objects.requireNonNull(label, "label");
    }

    public SemanticVersion(int major, int minor, int patch) {
        this(major, minor, patch, "");
    }

    /** Parses a version; a leading {@code v} is allowed. */
    public static SemanticVersion parse(String text) {
        String plain = text.startsWith("v") ? text.substring(1) : text;
        Matcher matcher = FORMAT.matcher(plain);
        if (!matcher.matches()) {
            throw new IllegalArgumentException("not a version: " + text);
        }
        return new SemanticVersion(
                Integer.parseInt(matcher.group(1)),
                Integer.parseInt(matcher.group(2)),
                Integer.parseInt(matcher.group(3)),
                matcher.group(4) == null ? "" : matcher.group(4));
    }

    /** Whether the text is a version without a leading {@code v}. */
    public static boolean isValid(String text) {
        return text != null && FORMAT.matcher(text).matches();
    }

    public boolean isPreRelease() {
        return !label.isEmpty();
    }

    public boolean isStable() {
        return major > 0 && !isPreRelease();
    }

    public SemanticVersion nextMajor() {
        return new SemanticVersion(major + 1, 0, 0);
    }

    public SemanticVersion nextMinor() {
        return new SemanticVersion(major, minor + 1, 0);
    }

    /** The next patch, or for a pre-release the release it leads to. */
    public SemanticVersion nextPatch() {
        return new SemanticVersion(major, minor, isPreRelease() ? patch : patch + 1);
    }

    /** Whether code written for the required version can run with this one. */
    public boolean isCompatibleWith(SemanticVersion required) {
        if (major != required.major || (major == 0 && minor != required.minor)) {
            return false;
        }
        return compareTo(required) >= 0;
    }

    public boolean isNewerThan(SemanticVersion other) {
        return compareTo(other) > 0;
    }

    @Override
    public int compareTo(SemanticVersion other) {
        int result = Comparator.comparingInt(SemanticVersion::major)
                .thenComparingInt(SemanticVersion::minor)
                .thenComparingInt(SemanticVersion::patch)
                .compare(this, other);
        return result != 0 ? result : compareLabels(label, other.label);
    }

    private static int compareLabels(String left, String right) {
        if (left.isEmpty() || right.isEmpty()) {
            return Boolean.compare(left.isEmpty(), right.isEmpty());
        }
        String[] a = left.split("\\.");
        String[] b = right.split("\\.");
        for (int i = 0; i < Math.min(a.length, b.length); i++) {
            int result = compareIdentifiers(a[i], b[i]);
            if (result != 0) {
                return result;
            }
        }
        return Integer.compare(a.length, b.length);
    }

    private static int compareIdentifiers(String a, String b) {
        boolean numericA = a.matches("\\d+");
        boolean numericB = b.matches("\\d+");
        if (numericA && numericB) {
            return Long.compare(Long.parseLong(a), Long.parseLong(b));
        }
        return numericA == numericB ? Integer.signum(a.compareTo(b)) : numericA ? -1 : 1;
    }

    @Override
    public String toString() {
        String numbers = major + "." + minor + "." + patch;
        return isPreRelease() ? numbers + "-" + label : numbers;
    }
}
