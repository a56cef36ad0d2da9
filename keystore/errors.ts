import { ProblemError } from '../shared/problems.ts';
/** The keystore did not do what was asked: disk full, locked for too long, connection gone. Always ours, never the caller's. */
export class KeystoreError extends Error {
  /** The database's own code, such as `SQLITE_FULL`. */
  readonly code: string;

  constructor(message: string, code: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'KeystoreError';
    this.code = code;
  }
}

/** The keystore cannot be used at all: not ours, too new, not writable, another secret, another mode. */
export class KeystoreOpenError extends KeystoreError {
  /** `EX_CONFIG` of BSD's sysexits.h: the remedy is in the configuration. */
  readonly exitCode = 78;

  constructor(message: string, code: string, options?: ErrorOptions) {
    super(message, code, options);
    this.name = 'KeystoreOpenError';
  }
}

/** The answer to a request that a keystore failed; `undefined`: the error was another. */
export function keystoreProblem(error: unknown): ProblemError | undefined {
  if (!(error instanceof KeystoreError)) return undefined;
  return new ProblemError('keystore_unavailable', 'The keystore cannot be used right now.', {
    remedy: 'Nothing is lost. Try again in a moment.',
  });
}
