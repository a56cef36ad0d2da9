import { createHash } from 'node:crypto';
import { createTransport } from 'nodemailer';
import type { MailConfig } from '../shared/config.ts';

/** One e-mail, ready to go. */
export type Mail = {
  /** Sent again for the same event, it has the same `Message-ID`, by which a mailbox tells that it has it already. */
  eventId: string;
  to: string;
  subject: string;
  text: string;
  html: string;
};

/** The mail server refuses the recipient's address for good: another try would be refused too. */
export class AddressRefused extends Error {}

/** What one step of talking to the mail server may take, milliseconds. An event's lease is longer than all of them. */
const TIMEOUTS = {
  dnsTimeout: 5000,
  connectionTimeout: 10_000,
  greetingTimeout: 10_000,
  socketTimeout: 20_000,
};

/** What nodemailer says of a failure. */
type Failure = Error & { code?: string; command?: string; responseCode?: number; response?: string };

/** Sends e-mail through the configured server. */
export class Mailer {
  readonly #transport;
  readonly #from: string;
  readonly #domain: string;
  #down = false;
  #trying = 0;

  constructor({ smtpUrl, from, requireTls }: MailConfig, replyTo: string | null) {
    const url = new URL(smtpUrl);
    const secure = url.protocol === 'smtps:';
    this.#from = from;
    this.#domain = /@([^<>\s]+?)>?$/.exec(from)?.[1] ?? 'localhost';
    this.#transport = createTransport(
      {
        ...TIMEOUTS,
        host: url.hostname.replace(/^\[|\]$/g, ''),
        port: Number(url.port) || (secure ? 465 : 587),
        secure,
        requireTLS: requireTls,
        ...(url.username
          ? { auth: { user: decodeURIComponent(url.username), pass: decodeURIComponent(url.password) } }
          : {}),
        disableFileAccess: true,
        disableUrlAccess: true,
      },
      {
        from,
        ...(replyTo ? { replyTo } : {}),
        // No vacation notice is to answer this (RFC 3834).
        headers: { 'Auto-Submitted': 'auto-generated' },
      },
    );
  }

  /**
   * Sends an e-mail. While the server is out of reach one mail at a time tries it, so that those that wait keep no other
   * work from being done.
   *
   * @throws AddressRefused when there is no such mailbox; Error for all else, which is worth another try
   */
  async send(mail: Mail): Promise<void> {
    if (this.#down && this.#trying > 0) throw new Error('The mail server is out of reach.');
    this.#trying++;
    const { eventId, to, subject, text, html } = mail;
    const id = createHash('sha256').update(`${this.#from} ${eventId}`).digest('hex').slice(0, 40);
    try {
      await this.#transport.sendMail({ to, subject, text, html, messageId: `<${id}@${this.#domain}>` });
      this.#down = false;
    } catch (error) {
      throw this.#toError(error as Failure, to);
    } finally {
      this.#trying--;
    }
  }

  /** Without the address in it, and without what else nodemailer hangs on its errors: this ends up in logs. */
  #toError({ code, command, responseCode, response, message }: Failure, to: string): Error {
    const malformed = code === 'EENVELOPE' && command === 'API';
    // An answer to a command, even a bad one, shows that the server is there; of a malformed address it was not asked.
    if (!malformed) this.#down = responseCode === undefined;
    const said = (response ?? message).replaceAll(to, '[address]').slice(0, 300);
    if (malformed || (command === 'RCPT TO' && (responseCode ?? 0) >= 500))
      return new AddressRefused(`The mail server refuses the customer's address: ${said}`);
    return new Error(`The mail was not sent (${[code, command].filter(Boolean).join(', ')}): ${said}`);
  }
}
