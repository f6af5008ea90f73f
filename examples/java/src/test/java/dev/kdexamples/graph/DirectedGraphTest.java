// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.graph;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import java.util.NoSuchElementException;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class DirectedGraphTest {

    private final DirectedGraph graph = new DirectedGraph();

    @BeforeEach
    void setUp() {
        graph.addEdge("shop", "cook");
        graph.addEdge("cook", "eat");
        graph.addEdge("lay table", "eat");
        graph.addEdge("eat", "wash up");
    }

    @Test
    void countsNodesAndEdges() {
        assertThat(graph.nodeCount()).isEqualTo(5);
        assertThat(graph.edgeCount()).isEqualTo(4);
        assertThat(graph.hasNode("cook")).isTrue();
        assertThat(graph.hasNode("sleep")).isFalse();
        assertThat(graph.hasEdge("shop", "cook")).isTrue();
        assertThat(graph.hasEdge("cook", "shop")).isFalse();
    }

    @Test
    void addsOnce() {
        assertThat(graph.addNode("sleep")).isTrue();
        assertThat(graph.addNode("sleep")).isFalse();
        assertThat(graph.addEdge("shop", "cook")).isFalse();
        assertThat(graph.edgeCount()).isEqualTo(4);
    }

    @Test
    void knowsNeighbours() {
        graph.addEdge("eat", "sleep");
        assertThat(graph.successors("eat")).containsExactly("wash up", "sleep");
        assertThat(graph.successors("sleep")).isEmpty();
        assertThat(graph.inDegree("eat")).isEqualTo(2);
        assertThat(graph.inDegree("shop")).isZero();
    }

    @Test
    void searchesBreadthFirst() {
        assertThat(graph.breadthFirst("shop")).containsExactly("shop", "cook", "eat", "wash up");
        assertThat(graph.breadthFirst("wash up")).hasSize(1).contains("wash up");
        assertThat(graph.breadthFirst("cook")).doesNotContain("shop");
    }

    @Test
    void findsShortestPaths() {
        graph.addEdge("shop", "eat");
        List<String> path = graph.shortestPath("shop", "wash up");
        assertThat(path).containsExactly("shop", "eat", "wash up");
        assertThat(graph.shortestPath("eat", "eat")).containsExactly("eat");
        assertThat(graph.shortestPath("eat", "shop")).isEmpty();
        assertThat(graph.isReachable("lay table", "wash up")).isTrue();
        assertThat(graph.isReachable("wash up", "eat")).isFalse();
    }

    @Test
    void sorts() {
        assertThat(graph.topologicalSort())
                .containsExactly("shop", "lay table", "cook", "eat", "wash up");
        assertThat(graph.hasCycle()).isFalse();
        assertThat(new DirectedGraph().topologicalSort()).isEmpty();
    }

    @Test
    void noticesCycles() {
        graph.addEdge("wash up", "shop");
        assertThat(graph.hasCycle()).isTrue();
        assertThatThrownBy(() -> graph.topologicalSort())
                .isInstanceOf(IllegalStateException.class)
                .hasMessage("the graph has a cycle");
    }

    @Test
    void turnsRound() {
        DirectedGraph reversed = graph.reversed();
        assertThat(reversed.hasEdge("eat", "cook")).isTrue();
        assertThat(reversed.edgeCount()).isEqualTo(graph.edgeCount());
        assertThat(reversed.successors("eat")).containsExactly("cook", "lay table");
    }

    @Test
    void rejectsBadArguments() {
        assertThatThrownBy(() -> graph.addNode("")).isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> graph.successors("moon"))
                .isInstanceOf(NoSuchElementException.class)
                .hasMessageContaining("moon");
    }
}
