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
