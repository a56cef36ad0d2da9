import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Html } from './html.ts';
import { checkoutPage } from './page-checkout.ts';
import { homePage, messagePage } from './page-home.ts';
import { invoicePage } from './page-invoice.ts';
import { linkPage } from './page-payment-link.ts';
import { portalPage } from './page-portal.ts';
import { readBody } from './request-body.ts';
import { stylesheet } from './stylesheet.ts';
import type { World } from './world.ts';

/** What a page answers: markup, or where to go next. */
export type PageAnswer = { status: number; page: Html; formTargets?: string[] } | { redirect: string };

export interface PageRequest {
  world: World;
  url: URL;
  /** The part of the path that names what the page is about. */
  name: string;
  /** The form sent; null when the page is only asked for. */
  form: URLSearchParams | null;
}

const pages: [RegExp, (request: PageRequest) => PageAnswer][] = [
  [/^\/$/, homePage],
  [/^\/c\/pay\/([\w]+)$/, checkoutPage],
  [/^\/b\/(test_\w+)$/, linkPage],
  [/^\/p\/session\/(test_\w+)$/, portalPage],
  [/^\/i\/test_\w+\/(in_\w+)$/, invoicePage],
];

/** Answers one request for a hosted page. */
export async function handlePage(
  world: World,
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
): Promise<void> {
  if (url.pathname === '/sandbox.css') {
    response
      .writeHead(200, { 'Content-Type': 'text/css; charset=utf-8', 'Cache-Control': 'max-age=60' })
      .end(stylesheet);
    return;
  }
  const posts = request.method === 'POST';
  if (posts && isForeign(request)) {
    send(response, {
      status: 403,
      page: messagePage('Not from here', 'This form was sent from another site.'),
    });
    return;
  }
  const form = posts ? new URLSearchParams(await readBody(request)) : null;
  for (const [pattern, answer] of pages) {
    const match = pattern.exec(url.pathname);
    if (match) {
      send(response, answer({ world, url, name: match[1] ?? '', form }));
      return;
    }
  }
  send(response, {
    status: 404,
    page: messagePage('Nothing here', 'This address leads nowhere in the sandbox.'),
  });
}

function isForeign(request: IncomingMessage): boolean {
  const { origin, host } = request.headers;
  if (origin === undefined || origin === 'null') return request.headers['sec-fetch-site'] === 'cross-site';
  return !URL.canParse(origin) || new URL(origin).host !== host;
}

function send(response: ServerResponse, answer: PageAnswer): void {
  const common = {
    'Cache-Control': 'no-store',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
  };
  if ('redirect' in answer) {
    response
      .writeHead(303, { ...common, Location: answer.redirect.replace(/[^\x21-\x7e]/gu, encodeURIComponent) })
      .end();
    return;
  }
  // Browsers apply form-action to redirects after a form too, so the site the buyer returns to is named.
  const targets = ["'self'", ...new Set((answer.formTargets ?? []).flatMap(originOf))].join(' ');
  response.writeHead(answer.status, {
    ...common,
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy': `default-src 'none'; style-src 'self'; img-src 'self' data:; form-action ${targets}; base-uri 'none'; frame-ancestors 'none'`,
  });
  response.end(answer.page.text);
}

function originOf(address: string): string[] {
  if (!URL.canParse(address)) return [];
  const { origin, protocol } = new URL(address);
  return [origin === 'null' ? protocol : origin];
}
