// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.text;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/** Lays out plain text in lines of a given width. */
public final class TextWrapper {

    private final int width;

    public TextWrapper(int width) {
        if (width < 1) {
            throw new IllegalArgumentException("width must be at least 1: " + width);
        }
        this.width = width;
    }

    public int getWidth() {
        return width;
    }

    /** Breaks text at white space; a word longer than the width is cut. */
    public List<String> wrap(String text) {
        Objects.requireNonNull(text, "text");
        List<String> lines = new ArrayList<>();
        StringBuilder line = new StringBuilder();
        for (String word : text.trim().split("\\s+")) {
            String rest = word;
            if (line.length() > 0 && line.length() + 1 + rest.length() > width) {
                lines.add(line.toString());
                line.setLength(0);
            }
            while (rest.length() > width) {
                lines.add(rest.substring(0, width));
                rest = rest.substring(width);
            }
            if (line.length() > 0) {
                line.append(' ');
            }
            line.append(rest);
        }
        if (line.length() > 0) {
            lines.add(line.toString());
        }
        return lines;
    }

    /** Wraps and puts a prefix before each line. The prefix does not count towards the width. */
    public String wrap(String text, String prefix) {
        StringBuilder result = new StringBuilder();
        for (String line : wrap(text)) {
            if (result.length() > 0) {
                result.append('\n');
            }
            result.append(prefix).append(line);
        }
        return result.toString();
    }

    /** Centres text with spaces; an odd space goes to the right. */
    public String center(String text) {
        return center(text, ' ');
    }

    /** Centres text with a fill character; an odd one goes to the right. */
    public String center(String text, char fill) {
        int space = width - text.length();
        if (space <= 0) {
            return text;
        }
        String filler = String.valueOf(fill);
        return filler.repeat(space / 2) + text + filler.repeat(space - space / 2);
    }

    public String alignRight(String text) {
        return " ".repeat(Math.max(0, width - text.length())) + text;
    }

    public String alignLeft(String text) {
        return text + " ".repeat(Math.max(0, width - text.length()));
    }

    /** Cuts text to the width and marks the cut with three dots where there is room for them. */
    public String truncate(String text) {
        if (text.length() <= width) {
            return text;
        }
        return width <= 3 ? text.substring(0, width) : text.substring(0, width - 3) + "...";
    }

    /** Whether the text fits on one line. */
    public boolean fits(String text) {
        return text.length() <= width && text.indexOf('\n') < 0;
    }
}
