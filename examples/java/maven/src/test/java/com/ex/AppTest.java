package com.ex;

import static org.junit.Assert.assertEquals;

public class AppTest {
    @org.junit.Test
    public void counts() {
        assertEquals(3, new Cart().count());
    }
}
