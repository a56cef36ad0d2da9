import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/**
 * What must never reach a log, whoever logs it and wherever in the line it stands: API keys of any prefix, Stripe's
 * secret and restricted keys, webhook secrets, checkout session ids (they open a sealed key), claim tokens (they open such an
 * id), the login in the address of a mail server, signed tokens and bearer credentials.
 */
const SECRETS: readonly (readonly [RegExp, string])[] = [
  // No word boundaries: an escaped line break, a percent sign or an underscore may stand before a secret.
  [/(sk|rk)_(live|test)_[0-9A-Za-z_]+/g, '$1_$2_[redacted]'],
  [/cs_(live|test)_[0-9A-Za-z]+/g, 'cs_$1_[redacted]'],
  [/tgc_[0-9A-Za-z_-]{43}/g, 'tgc_[redacted]'],
  [/whsec_[0-9A-Za-z+/=_-]+/g, 'whsec_[redacted]'],
  // Without the prefix before it: looking for one at every letter takes a long text ages.
  [/(_(?:live|test)_)[0-9A-Za-z]{50,}/g, '$1[redacted]'],
  [/(smtps?:\/\/)[^\s"\\]*@/gi, '$1[redacted]@'],
  // Recovery links and sign-in cookies: an id, perhaps a time, and an HMAC-SHA-256.
  [/[0-9A-Za-z.]{20,40}\.[0-9A-Za-z_-]{43}/g, '[redacted]'],
  [/\b(Bearer|Basic)\s+[^\s"\\]+/gi, '$1 [redacted]'],
];

/** The text with every secret of a known form blanked out. Used on each log line and on stored error texts. */
export function redact(text: string): string {
  let clean = text;
  for (const [pattern, replacement] of SECRETS) clean = clean.replace(pattern, replacement);
  return clean;
}

/**
 * The project's logger: JSON lines, with secrets blanked out of the finished line, so that no field, message or stack
 * trace gets around it.
 *
 * @param options.level a pino level (`silent` for none)
 * @param options.destination where lines go; standard output when omitted
 */
export function createLogger(options: {
  level: string;
  destination?: DestinationStream | undefined;
}): Logger {
  const config = {
    level: options.level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: ['*.headers.cookie', 'headers.cookie'], censor: '[redacted]' },
    hooks: { streamWrite: redact },
  };
  return options.destination ? pino(config, options.destination) : pino(config);
}

/** A destination that appends to a file, readable by its owner only. */
export function logFile(path: string): DestinationStream {
  return pino.destination({ dest: path, mkdir: true, mode: 0o600, sync: true });
}
