import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Circuit } from './circuit.ts';

const SPEC = { failures: 3, openMs: 1000 };

/** A circuit that was opened at `at`, by failures that each were one. */
function opened(grows: boolean, at = 10_000): Circuit {
  const circuit = new Circuit(SPEC, grows);
  for (let i = SPEC.failures - 1; i >= 0; i--) circuit.failed(at - i * 100);
  return circuit;
}

describe('a circuit', () => {
  it('opens after so many failures in a row, and not when an answer came in between', () => {
    const circuit = new Circuit(SPEC, true);
    for (const now of [100, 200]) circuit.failed(now);
    circuit.succeeded();
    for (const now of [300, 400]) circuit.failed(now);
    expect(circuit.state).toBe('closed');
    circuit.failed(500);
    expect(circuit.state).toBe('open');
  });

  it('counts all connections that break at one moment as one failure', () => {
    const circuit = new Circuit(SPEC, true);
    for (let i = 0; i < 100; i++) circuit.failed(500 + i / 20);
    expect(circuit.state).toBe('closed');
  });

  it('lets nobody through while it is open, then one in each pause', () => {
    const circuit = opened(true);
    expect(circuit.admits(10_999)).toBe(false);
    expect(circuit.admits(11_000)).toBe(true);
    circuit.tried(11_000);
    expect(circuit.state).toBe('half_open');
    expect(circuit.admits(11_999)).toBe(false);
    expect(circuit.admits(12_000)).toBe(true);
  });

  it('closes when the one that was let through is answered, and starts anew', () => {
    const circuit = opened(true);
    circuit.tried(11_000);
    circuit.succeeded();
    expect(circuit.state).toBe('closed');
    circuit.failed(11_100);
    expect(circuit.admits(11_100)).toBe(true);
  });

  it.each([
    { grows: true, pauses: [1000, 2000, 4000, 8000, 8000] },
    { grows: false, pauses: [1000, 1000, 1000, 1000, 1000] },
  ])(
    'opens again when it is not: pauses grow to a bound where there are others ($grows)',
    ({ grows, pauses }) => {
      const circuit = opened(grows);
      let now = 10_000;
      for (const pause of pauses) {
        expect(circuit.admits(now + pause - 1)).toBe(false);
        now += pause;
        expect(circuit.admits(now)).toBe(true);
        circuit.tried(now);
        circuit.failed(now);
      }
    },
  );

  it('is not kept open by failures of requests that were sent before it opened', () => {
    const circuit = opened(true);
    for (let now = 10_100; now < 11_000; now += 100) circuit.failed(now);
    expect(circuit.admits(11_000)).toBe(true);
  });

  it('whatever happens: no server is left alone for longer than the bound, and an answer always closes it', () => {
    const step = fc.record({
      after: fc.integer({ min: 0, max: 3000 }),
      what: fc.constantFrom('request', 'failure', 'answer'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), fc.boolean(), (steps, grows) => {
        const circuit = new Circuit(SPEC, grows);
        let now = 0;
        let failures = 0;
        for (const { after, what } of steps) {
          now += after;
          if (what === 'request' && circuit.admits(now)) circuit.tried(now);
          if (what === 'failure') {
            circuit.failed(now);
            failures++;
          }
          if (what === 'answer') {
            circuit.succeeded();
            failures = 0;
            expect(circuit.state).toBe('closed');
          }
          if (failures < SPEC.failures) expect(circuit.state).toBe('closed');
          expect(circuit.nextTryAt - now).toBeLessThanOrEqual(grows ? 8000 : 1000);
        }
      }),
    );
  });
});
