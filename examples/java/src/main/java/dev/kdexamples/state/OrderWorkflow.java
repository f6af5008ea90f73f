// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.state;

import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/** The life of an order from draft to delivery, with the steps that each status allows. */
public final class OrderWorkflow {

    /** Where an order stands. */
    public enum Status {
        DRAFT, PLACED, PAID, SHIPPED, DELIVERED, CANCELLED;

        /** The statuses that may follow. */
        public Set<Status> successors() {
            return switch (this) {
                case DRAFT -> EnumSet.of(PLACED, CANCELLED);
                case PLACED -> EnumSet.of(PAID, CANCELLED);
                case PAID -> EnumSet.of(SHIPPED, CANCELLED);
                case SHIPPED -> EnumSet.of(DELIVERED);
                case DELIVERED, CANCELLED -> EnumSet.noneOf(Status.class);
            };
        }

        public boolean isFinal() {
            return successors().isEmpty();
        }
    }

    private final String id;
    private final List<Status> history = new ArrayList<>();
    private String trackingCode;
    private String cancelReason;

    public OrderWorkflow(String id) {
        if (id == null || id.isBlank()) {
            throw new IllegalArgumentException("id must not be blank");
        }
        this.id = id;
        history.add(Status.DRAFT);
    }

    public String getId() {
        return id;
    }

    public Status getStatus() {
        return history.get(history.size() - 1);
    }

    /** All statuses so far, oldest first. */
    public List<Status> getHistory() {
        return List.copyOf(history);
    }

    /** The tracking code, or null before the order is shipped. */
    public String getTrackingCode() {
        return trackingCode;
    }

    /** Why the order was cancelled, or null. */
    public String getCancelReason() {
        return cancelReason;
    }

    public boolean canMoveTo(Status target) {
        return getStatus().successors().contains(target);
    }

    public boolean isOpen() {
        return !getStatus().isFinal();
    }

    public OrderWorkflow place() {
        return moveTo(Status.PLACED);
    }

    public OrderWorkflow pay() {
        return moveTo(Status.PAID);
    }

    /** Ships the order under a tracking code. */
    public OrderWorkflow ship(String code) {
        if (code == null || code.isBlank()) {
            throw new IllegalArgumentException("tracking code must not be blank");
        }
        moveTo(Status.SHIPPED);
        trackingCode = code;
        return this;
    }

    public OrderWorkflow deliver() {
        return moveTo(Status.DELIVERED);
    }

    public OrderWorkflow cancel() {
        return cancel("no reason given");
    }

    public OrderWorkflow cancel(String reason) {
        moveTo(Status.CANCELLED);
        cancelReason = reason;
        return this;
    }

    private OrderWorkflow moveTo(Status target) {
        if (!canMoveTo(target)) {
            throw new IllegalStateException(
                    "order " + id + " cannot go from " + getStatus() + " to " + target);
        }
        history.add(target);
        return this;
    }
}
