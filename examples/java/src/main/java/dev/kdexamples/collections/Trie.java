// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.collections;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;

/** A set of words that is searched by prefix. */
public final class Trie {

    private static final class Node {
        private final TreeMap<Character, Node> children = new TreeMap<>();
        private boolean word;
        private int words;
    }

    private final Node root = new Node();

    /** Adds a word; says whether it was new. */
    public boolean add(String word) {
        if (word.isEmpty()) {
            throw new IllegalArgumentException("word must not be empty");
        }
        if (contains(word)) {
            return false;
        }
        Node node = root;
        node.words++;
        for (char c : word.toCharArray()) {
            node = node.children.computeIfAbsent(c, ignored -> new Node());
            node.words++;
        }
        node.word = true;
        return true;
    }

    /** Adds several words and returns how many were new. */
    public int addAll(String... words) {
        int added = 0;
        for (String word : words) {
            if (add(word)) {
                added++;
            }
        }
        return added;
    }

    public boolean contains(String word) {
        Node node = find(word);
        return node != null && node.word;
    }

    public boolean hasPrefix(String prefix) {
        Node node = find(prefix);
        return node != null && node.words > 0;
    }

    /** How many words start with the prefix. */
    public int countWithPrefix(String prefix) {
        Node node = find(prefix);
        return node == null ? 0 : node.words;
    }

    /** The words that start with the prefix, in order. */
    public List<String> withPrefix(String prefix) {
        List<String> found = new ArrayList<>();
        Node node = find(prefix);
        if (node != null) {
            collect(node, new StringBuilder(prefix), found);
        }
        return found;
    }

    /** The longest word of the set that the text starts with, or null. */
    public String longestPrefixOf(String text) {
        Node node = root;
        String longest = null;
        for (int i = 0; i < text.length(); i++) {
            node = node.children.get(text.charAt(i));
            if (node == null) {
                break;
            }
            if (node.word) {
                longest = text.substring(0, i + 1);
            }
        }
        return longest;
    }

    /** Removes a word; says whether it was there. */
    public boolean remove(String word) {
        if (!contains(word)) {
            return false;
        }
        Node node = root;
        node.words--;
        for (char c : word.toCharArray()) {
            Node child = node.children.get(c);
            child.words--;
            if (child.words == 0) {
                node.children.remove(c);
                return true;
            }
            node = child;
        }
        node.word = false;
        return true;
    }

    public int size() {
        return root.words;
    }

    public boolean isEmpty() {
        return root.words == 0;
    }

    private Node find(String prefix) {
        Node node = root;
        for (int i = 0; i < prefix.length() && node != null; i++) {
            node = node.children.get(prefix.charAt(i));
        }
        return node;
    }

    private static void collect(Node node, StringBuilder path, List<String> found) {
        if (node.word) {
            found.add(path.toString());
        }
        node.children.forEach((c, child) -> {
            path.append(c.charValue());
            collect(child, path, found);
            path.setLength(path.length() - 1);
        });
    }
}
