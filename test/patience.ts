import { vi } from 'vitest';

/** What is waited for may take as long as a busy machine needs, unless the test says how long. Vitest gives up after a second. */
const TIMEOUT_MS = 120_000;

// The files share processes, and each comes by here.
const patient = Symbol.for('patient');
const { waitFor } = vi;
if (!(patient in waitFor)) {
  vi.waitFor = Object.assign(
    ((callback, options) =>
      waitFor(
        callback,
        typeof options === 'number' ? options : { timeout: TIMEOUT_MS, ...options },
      )) as typeof waitFor,
    { [patient]: true },
  );
}
