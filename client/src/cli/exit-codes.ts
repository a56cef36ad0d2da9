import { TollgateError } from '../error.ts';

/** What the command line ends with. `run` ends with what its command ends with. */
export const EXIT = {
  fine: 0,
  /** Not entitled, or the server or this machine refused for another reason that is told. */
  notEntitled: 1,
  wrongUsage: 2,
  timedOut: 3,
  /** No answer, or one that says nothing on who is entitled. */
  serverUnreachable: 4,
  /** Ctrl-C, as every shell has it. */
  interrupted: 130,
} as const;

/** The command line was not understood. */
export class UsageError extends Error {
  readonly remedy: string | null;

  constructor(message: string, remedy: string | null = null) {
    super(message);
    this.remedy = remedy;
  }
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return EXIT.wrongUsage;
  if (!(error instanceof TollgateError)) return EXIT.notEntitled;
  if (error.isServerTrouble) return EXIT.serverUnreachable;
  switch (error.code) {
    case 'timed_out':
      return EXIT.timedOut;
    case 'aborted':
      return EXIT.interrupted;
    case 'insecure_server':
    case 'key_malformed':
      return EXIT.wrongUsage;
    default:
      return error.status === 400 ? EXIT.wrongUsage : EXIT.notEntitled;
  }
}
