"""What moves in a page while it loads, as the browser itself measures it."""

from __future__ import annotations

SHIFTS = """() => new PerformanceObserver(list => {
    for (const one of list.getEntries()) {
        const what = one.sources.map(source => source.node?.className ?? source.node?.nodeName).join(", ");
        const isMuch = !one.hadRecentInput && one.value > 0.01;
        if (isMuch) window.shifts?.push(`${one.value.toFixed(3)} of the page: ${what}`);
    }
}).observe({type: 'layout-shift'})"""
"""Notes what is moved by what comes later: more than a hundredth of the page, by its own measure."""

BEGIN = """() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => {
    window.shifts = [];
    done();
})))"""
"""Forgets what a change of the window's size has moved."""
