// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.rate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class TokenBucketTest {

    private final AtomicLong now = new AtomicLong(1_000);
    private TokenBucket bucket;

    @BeforeEach
    void setUp() {
        bucket = new TokenBucket(5, 2, now::get);
    }

    @Test
    void startsFull() {
        assertTrue(bucket.isFull());
        assertEquals(5, bucket.available());
        assertEquals(5, bucket.getCapacity());
        assertEquals(2, bucket.getTokensPerSecond());
    }

    @Test
    void givesTokensUntilEmpty() {
        for (int i = 0; i < 5; i++) {
            assertTrue(bucket.tryAcquire());
        }
        assertFalse(bucket.tryAcquire());
        assertEquals(0, bucket.available());
        assertEquals(1L, bucket.getRejected());
    }

    @Test
    void givesSeveralOrNone() {
        assertTrue(bucket.tryAcquire(3));
        assertFalse(bucket.tryAcquire(3));
        assertEquals(2, bucket.available(), "a refused request takes nothing");
        assertTrue(bucket.tryAcquire(2));
        assertFalse(bucket.isFull());
    }

    @Test
    void fillsUpWithTime() {
        bucket.drain();
        now.addAndGet(499);
        assertFalse(bucket.tryAcquire());
        now.addAndGet(1);
        assertTrue(bucket.tryAcquire());
        now.addAndGet(1_500);
        assertEquals(3, bucket.available());
    }

    @Test
    void neverOverflows() {
        bucket.tryAcquire(4);
        now.addAndGet(60_000);
        assertEquals(5, bucket.available());
        assertTrue(bucket.isFull());
    }

    @Test
    void tellsTheWaitingTime() {
        assertEquals(0L, bucket.millisUntil(5));
        bucket.drain();
        assertEquals(500L, bucket.millisUntil(1));
        assertEquals(2_500L, bucket.millisUntil(5));
        now.addAndGet(250);
        assertEquals(250L, bucket.millisUntil(1));
    }

    @Test
    void drains() {
        bucket.tryAcquire();
        int drained = bucket.drain();
        assertEquals(4, drained);
        assertEquals(0, bucket.drain());
    }

    @Test
    void rejectsAClockThatRunsBackwards() {
        now.set(999);
        IllegalStateException error =
                assertThrows(IllegalStateException.class, () -> bucket.tryAcquire());
        assertEquals("the clock ran backwards", error.getMessage());
    }

    @Test
    void rejectsBadArguments() {
        assertThrows(IllegalArgumentException.class, () -> bucket.tryAcquire(6));
        assertThrows(IllegalArgumentException.class, () -> bucket.tryAcquire(0));
        assertThrows(IllegalArgumentException.class, () -> bucket.millisUntil(-1));
        assertThrows(IllegalArgumentException.class, () -> new TokenBucket(0, 1, now::get));
        assertThrows(IllegalArgumentException.class, () -> new TokenBucket(1, 0, now::get));
        assertThrows(NullPointerException.class, () -> new TokenBucket(1, 1, null));
    }
}
