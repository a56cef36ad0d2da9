import { SMTPServer, type SMTPServerOptions } from 'smtp-server';
import { freePort } from '../scripts/free-port.ts';

/** One e-mail as it came in. */
export type ReceivedMail = {
  /** The envelope's recipients. */
  to: string[];
  subject: string;
  messageId: string;
  /** All of it, as it was sent. */
  raw: string;
  /** The plain text, decoded. */
  text: string;
  /** The HTML, decoded. */
  html: string;
};

export type TestSmtp = {
  /** What to set as SMTP_URL. */
  url: string;
  /** What came in, oldest first. */
  mails: ReceivedMail[];
  /** What the next recipients are answered; `null`: 250. */
  refuseWith: { code: number; text: string } | null;
  /** Stops listening and cuts every connection; `start` listens on the same port again. */
  stop(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
};

/** A real mail server that keeps what it gets. */
export async function startSmtp(options: SMTPServerOptions = {}): Promise<TestSmtp> {
  let server: SMTPServer | null = null;
  const port = await freePort();
  const smtp: TestSmtp = {
    url: `smtp://127.0.0.1:${port}`,
    mails: [],
    refuseWith: null,
    async start() {
      if (server) return;
      const started = new SMTPServer({
        authOptional: true,
        // Its own certificate is one that nobody trusts.
        hideSTARTTLS: true,
        closeTimeout: 100,
        onRcptTo(_address, _session, done) {
          const { refuseWith } = smtp;
          if (!refuseWith) return done();
          return done(Object.assign(new Error(refuseWith.text), { responseCode: refuseWith.code }));
        },
        onData(stream, session, done) {
          const chunks: Buffer[] = [];
          stream.on('data', (chunk: Buffer) => chunks.push(chunk));
          stream.on('end', () => {
            const raw = Buffer.concat(chunks).toString();
            const to = session.envelope.rcptTo.map(({ address }) => address);
            smtp.mails.push({ to, ...parse(raw), raw });
            done();
          });
        },
        ...options,
      });
      started.on('error', () => {});
      await new Promise<void>((resolve) => started.listen(port, '127.0.0.1', resolve));
      server = started;
    },
    async stop() {
      const stopping = server;
      server = null;
      if (stopping) await new Promise<void>((resolve) => stopping.close(resolve));
    },
    close: () => smtp.stop(),
  };
  await smtp.start();
  return smtp;
}

function parse(raw: string): Omit<ReceivedMail, 'to' | 'raw'> {
  const headers = raw.slice(0, raw.indexOf('\r\n\r\n')).replaceAll(/\r\n[ \t]+/g, ' ');
  const header = (name: string) => new RegExp(`^${name}: (.*)$`, 'im').exec(headers)?.[1]?.trim() ?? '';
  const boundary = /boundary="([^"]+)"/.exec(headers)?.[1];
  const parts = boundary ? raw.split(`--${boundary}`) : [];
  const part = (type: string) =>
    decodePart(parts.find((each) => each.includes(`Content-Type: ${type}`)) ?? '');
  return {
    subject: header('Subject'),
    messageId: header('Message-ID'),
    text: part('text/plain'),
    html: part('text/html'),
  };
}

function decodePart(part: string): string {
  const [head = '', ...rest] = part.split('\r\n\r\n');
  const body = rest.join('\r\n\r\n');
  if (/base64/i.test(head)) return Buffer.from(body, 'base64').toString();
  if (!/quoted-printable/i.test(head)) return body;
  const bytes = body
    .replaceAll('=\r\n', '')
    .replaceAll(/=([0-9A-F]{2})/g, (_all, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1').toString();
}
