// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.graph;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Set;

/** A directed graph of named nodes, which keep the order in which they were added. */
public final class DirectedGraph {

    private final Map<String, Set<String>> edges = new LinkedHashMap<>();

    /** Adds a node; says whether it was new. */
    public boolean addNode(String node) {
        if (node == null || node.isEmpty()) {
            throw new IllegalArgumentException("node must have a name");
        }
        return edges.putIfAbsent(node, new LinkedHashSet<>()) == null;
    }

    /** Adds an edge, with its nodes where needed; says whether it was new. */
    public boolean addEdge(String from, String to) {
        addNode(from);
        addNode(to);
        return edges.get(from).add(to);
    }

    public boolean hasNode(String node) {
        return edges.containsKey(node);
    }

    public boolean hasEdge(String from, String to) {
        return edges.getOrDefault(from, Set.of()).contains(to);
    }

    public int nodeCount() {
        return edges.size();
    }

    public int edgeCount() {
        return edges.values().stream().mapToInt(Set::size).sum();
    }

    /** The nodes that edges of a node lead to. */
    public List<String> successors(String node) {
        return new ArrayList<>(targets(node));
    }

    /** The number of edges that lead to a node. */
    public int inDegree(String node) {
        targets(node);
        return (int) edges.values().stream().filter(targets -> targets.contains(node)).count();
    }

    /** The nodes that can be reached, by breadth-first search, with the start first. */
    public List<String> breadthFirst(String start) {
        targets(start);
        return new ArrayList<>(search(start).keySet());
    }

    /** A shortest path with both ends, or an empty list where there is none. */
    public List<String> shortestPath(String from, String to) {
        targets(from);
        targets(to);
        Map<String, String> cameFrom = search(from);
        List<String> path = new ArrayList<>();
        if (cameFrom.containsKey(to)) {
            for (String node = to; node != null; node = cameFrom.get(node)) {
                path.add(0, node);
            }
        }
        return path;
    }

    public boolean isReachable(String from, String to) {
        return !shortestPath(from, to).isEmpty();
    }

    /** The nodes in an order in which each edge leads forwards. */
    public List<String> topologicalSort() {
        Map<String, Integer> open = new LinkedHashMap<>();
        edges.keySet().forEach(node -> open.put(node, inDegree(node)));
        Deque<String> ready = new ArrayDeque<>();
        open.forEach((node, count) -> {
            if (count == 0) {
                ready.add(node);
            }
        });
        List<String> sorted = new ArrayList<>();
        while (!ready.isEmpty()) {
            String node = ready.remove();
            sorted.add(node);
            for (String next : edges.get(node)) {
                if (open.merge(next, -1, Integer::sum) == 0) {
                    ready.add(next);
                }
            }
        }
        if (sorted.size() < edges.size()) {
            throw new IllegalStateException("the graph has a cycle");
        }
        return sorted;
    }

    public boolean hasCycle() {
        try {
            topologicalSort();
            return false;
        } catch (IllegalStateException e) {
            return true;
        }
    }

    /** A new graph with all edges turned round. */
    public DirectedGraph reversed() {
        DirectedGraph reversed = new DirectedGraph();
        edges.keySet().forEach(reversed::addNode);
        edges.forEach((from, targets) -> targets.forEach(to -> reversed.addEdge(to, from)));
        return reversed;
    }

    private Map<String, String> search(String start) {
        Map<String, String> cameFrom = new LinkedHashMap<>();
        Deque<String> queue = new ArrayDeque<>();
        cameFrom.put(start, null);
        queue.add(start);
        while (!queue.isEmpty()) {
            String node = queue.remove();
            for (String next : edges.get(node)) {
                if (!cameFrom.containsKey(next)) {
                    cameFrom.put(next, node);
                    queue.add(next);
                }
            }
        }
        return cameFrom;
    }

    private Set<String> targets(String node) {
        Set<String> targets = edges.get(node);
        if (targets == null) {
            throw new NoSuchElementException("no such node: " + node);
        }
        return targets;
    }
}
