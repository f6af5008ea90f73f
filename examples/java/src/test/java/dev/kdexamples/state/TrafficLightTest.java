// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.state;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class TrafficLightTest {

    private TrafficLight light;

    @BeforeEach
    void setUp() {
        light = new TrafficLight(10, 5);
    }

    @Test
    void startsWithRed() {
        assertEquals(TrafficLight.Signal.RED, light.getSignal());
        assertSame(TrafficLight.Signal.RED, light.getSignal());
        assertFalse(light.canDrive());
        assertEquals(10, light.remaining());
    }

    @Test
    void runsThroughAllSignals() {
        assertEquals(TrafficLight.Signal.RED_AMBER, light.advance());
        assertEquals(TrafficLight.Signal.GREEN, light.advance());
        assertTrue(light.canDrive());
        assertEquals(TrafficLight.Signal.AMBER, light.advance());
        assertEquals(TrafficLight.Signal.RED, light.advance());
    }

    @Test
    void letsTimePass() {
        assertEquals(TrafficLight.Signal.RED, light.tick(9));
        assertEquals(1, light.remaining());
        assertEquals(TrafficLight.Signal.RED_AMBER, light.tick(1));
        assertEquals(TrafficLight.Signal.GREEN, light.tick(3));
        assertEquals(4, light.remaining(), "one second of green has passed");
    }

    @Test
    void comesBackAfterACycle() {
        int cycle = light.cycleLength();
        assertEquals(20, cycle);
        light.tick(4);
        assertEquals(TrafficLight.Signal.RED, light.tick(3 * cycle));
        assertEquals(6, light.remaining());
    }

    @Test
    void hasDurations() {
        assertEquals(5, light.duration(TrafficLight.Signal.GREEN));
        assertEquals(3, light.duration(TrafficLight.Signal.AMBER));
        assertEquals(30, new TrafficLight().duration(TrafficLight.Signal.RED));
        assertEquals(55, new TrafficLight().cycleLength());
    }

    @Test
    void canFail() {
        light.tick(12);
        assertTrue(light.canDrive());
        light.fail();
        assertTrue(light.isOutOfOrder());
        assertFalse(light.canDrive());
        assertThrows(IllegalStateException.class, () -> light.advance());
        assertThrows(IllegalStateException.class, () -> light.tick(1));
    }

    @Test
    void canBeRepaired() {
        light.fail();
        light.repair();
        assertFalse(light.isOutOfOrder());
        assertEquals(TrafficLight.Signal.RED, light.getSignal());
        assertDoesNotThrow(() -> light.advance());
    }

    @Test
    void hasTheGivenDurations() {
        for (TrafficLight.Signal signal : TrafficLight.Signal.values()) {
            int expected = switch (signal) {
                case RED -> 10;
                case GREEN -> 5;
                case AMBER -> 3;
                case RED_AMBER -> 2;
            };
            assertEquals(expected, light.duration(signal), signal.name());
        }
    }

    @Test
    void letsDriveOnlyOnGreen() {
        for (TrafficLight.Signal signal : TrafficLight.Signal.values()) {
            assertEquals(signal == TrafficLight.Signal.GREEN, signal.allowsDriving());
            assertNotEquals(signal, signal.next());
        }
    }

    @Test
    void rejectsBadArguments() {
        assertThrows(IllegalArgumentException.class, () -> new TrafficLight(0, 5));
        assertThrows(IllegalArgumentException.class, () -> light.tick(-1));
    }
}
