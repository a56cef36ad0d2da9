import { describe, expect, it } from 'vitest';
import { RetryBudget } from './retry-budget.ts';

/** How many retries there are at a time, taking them. */
function takeAll(budget: RetryBudget, now: number): number {
  let taken = 0;
  while (taken < 10_000 && budget.take(now)) taken++;
  return taken;
}

describe('the retry budget', () => {
  it('lets a quiet API retry ten times in ten seconds', () => {
    const budget = new RetryBudget(0.2);
    expect(takeAll(budget, 500_000)).toBe(10);
    expect(takeAll(budget, 509_000)).toBe(0);
    expect(takeAll(budget, 510_000)).toBe(10);
  });

  it('is a share of the requests of the last ten seconds beyond that', () => {
    const budget = new RetryBudget(0.2);
    for (let second = 0; second < 60; second++) {
      for (let i = 0; i < 50; i++) budget.request(second * 1000 + i);
    }
    // Ten seconds of fifty.
    expect(takeAll(budget, 59_500)).toBe(10 + 100);
    // The requests are forgotten, and the retries with them.
    expect(takeAll(budget, 75_000)).toBe(10);
  });

  it('of nothing leaves the ten', () => {
    const budget = new RetryBudget(0);
    for (let i = 0; i < 1000; i++) budget.request(1000);
    expect(takeAll(budget, 1000)).toBe(10);
  });
});
