// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.state;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.kdexamples.state.OrderWorkflow.Status;
import org.junit.jupiter.api.Test;

class OrderWorkflowTest {

    private final OrderWorkflow order = new OrderWorkflow("A-1");

    private static void assertStatus(OrderWorkflow workflow, Status expected) {
        assertThat(workflow.getStatus()).isEqualTo(expected);
        assertThat(workflow.getHistory()).contains(expected);
    }

    @Test
    void startsAsDraft() {
        assertThat(order.getId()).isEqualTo("A-1");
        assertThat(order.getStatus()).isEqualTo(Status.DRAFT);
        assertThat(order.isOpen()).isTrue();
        assertThat(order.getTrackingCode()).isNull();
        assertThat(order.getCancelReason()).isNull();
    }

    @Test
    void goesAllTheWay() {
        order.place();
        assertStatus(order, Status.PLACED);
        order.pay().ship("TR-9");
        assertStatus(order, Status.SHIPPED);
        assertThat(order.getTrackingCode()).startsWith("TR-");
        order.deliver();
        assertStatus(order, Status.DELIVERED);
        assertThat(order.isOpen()).isFalse();
    }

    @Test
    void remembersItsHistory() {
        order.place().pay();
        assertThat(order.getHistory()).containsExactly(Status.DRAFT, Status.PLACED, Status.PAID);
        assertThat(order.getHistory()).hasSize(3).doesNotContain(Status.SHIPPED);
        assertThatThrownBy(() -> order.getHistory().clear())
                .isInstanceOf(UnsupportedOperationException.class);
    }

    @Test
    void canBeCancelled() {
        order.place().cancel("too late");
        assertThat(order.getStatus()).isEqualTo(Status.CANCELLED);
        assertThat(order.getCancelReason()).isEqualTo("too late");
        assertThat(order.isOpen()).isFalse();
        assertThat(new OrderWorkflow("B").cancel().getCancelReason()).contains("no reason");
    }

    @Test
    void knowsTheNextSteps() {
        assertThat(order.canMoveTo(Status.PLACED)).isTrue();
        assertThat(order.canMoveTo(Status.PAID)).isFalse();
        assertThat(Status.PAID.successors()).containsExactly(Status.SHIPPED, Status.CANCELLED);
        assertThat(Status.DELIVERED.isFinal()).isTrue();
        assertThat(Status.SHIPPED.isFinal()).isFalse();
    }

    @Test
    void rejectsWrongSteps() {
        assertThatThrownBy(() -> order.pay())
                .isInstanceOf(IllegalStateException.class)
                .hasMessage("order A-1 cannot go from DRAFT to PAID");
        assertThatThrownBy(() -> order.deliver()).isInstanceOf(IllegalStateException.class);
        assertThat(order.getHistory()).hasSize(1);
    }

    @Test
    void staysCancelled() {
        order.cancel();
        assertThatThrownBy(() -> order.cancel("again")).hasMessageContaining("CANCELLED");
        assertThat(order.getCancelReason()).isEqualTo("no reason given");
    }

    @Test
    void rejectsBadArguments() {
        assertThatThrownBy(() -> new OrderWorkflow(" ")).isInstanceOf(IllegalArgumentException.class);
        order.place().pay();
        assertThatThrownBy(() -> order.ship("")).hasMessage("tracking code must not be blank");
        assertThat(order.getStatus()).isEqualTo(Status.PAID);
    }
}
