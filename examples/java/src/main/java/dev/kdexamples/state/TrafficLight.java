// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.state;

/** A traffic light that runs through red, red with amber, green and amber. */
public final class TrafficLight {

    /** What the light shows. */
    public enum Signal {
        RED, RED_AMBER, GREEN, AMBER;

        /** The signal that follows. */
        public Signal next() {
            return switch (this) {
                case RED -> RED_AMBER;
                case RED_AMBER -> GREEN;
                case GREEN -> AMBER;
                case AMBER -> RED;
            };
        }

        public boolean allowsDriving() {
            return this == GREEN;
        }
    }

    private final int redSeconds;
    private final int greenSeconds;
    private Signal signal = Signal.RED;
    private int elapsed;
    private boolean outOfOrder;

    /** A light with 30 seconds of red and 20 of green. */
    public TrafficLight() {
        this(30, 20);
    }

    public TrafficLight(int redSeconds, int greenSeconds) {
        if (redSeconds < 1 || greenSeconds < 1) {
            throw new IllegalArgumentException("times must be at least 1 second");
        }
        this.redSeconds = redSeconds;
        this.greenSeconds = greenSeconds;
    }

    public Signal getSignal() {
        return signal;
    }

    /** How long a signal stays on. */
    public int duration(Signal which) {
        return switch (which) {
            case RED -> redSeconds;
            case GREEN -> greenSeconds;
            case AMBER -> 3;
            case RED_AMBER -> 2;
        };
    }

    /** Seconds until the next signal. */
    public int remaining() {
        return duration(signal) - elapsed;
    }

    /** Seconds for all four signals. */
    public int cycleLength() {
        int sum = 0;
        for (Signal each : Signal.values()) {
            sum += duration(each);
        }
        return sum;
    }

    /** Switches to the next signal at once and returns it. */
    public Signal advance() {
        requireWorking();
        signal = signal.next();
        elapsed = 0;
        return signal;
    }

    /** Lets time pass and returns the signal that then shows. */
    public Signal tick(int seconds) {
        requireWorking();
        if (seconds < 0) {
            throw new IllegalArgumentException("time does not run backwards: " + seconds);
        }
        elapsed += seconds;
        while (elapsed >= duration(signal)) {
            elapsed -= duration(signal);
            signal = signal.next();
        }
        return signal;
    }

    public boolean canDrive() {
        return !outOfOrder && signal.allowsDriving();
    }

    /** Takes the light out of order; until repair it neither advances nor lets anyone drive. */
    public void fail() {
        outOfOrder = true;
    }

    /** Puts the light in order again; it starts with red. */
    public void repair() {
        outOfOrder = false;
        signal = Signal.RED;
        elapsed = 0;
    }

    public boolean isOutOfOrder() {
        return outOfOrder;
    }

    private void requireWorking() {
        if (outOfOrder) {
            throw new IllegalStateException("the light is out of order");
        }
    }
}
