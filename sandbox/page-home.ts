import { type Html, html } from './html.ts';
import { layout } from './page-layout.ts';
import type { PageAnswer, PageRequest } from './pages.ts';

/** A page that says one thing, with at most one way on. */
export function messagePage(title: string, text: string, link?: { href: string; text: string }): Html {
  return layout(
    title,
    html`<main class="narrow"><section class="card message" id="message">
<h1>${title}</h1>
<p>${text}</p>
${link ? html`<p><a class="button quiet" id="continue" href="${link.href}">${link.text}</a></p>` : ''}
</section></main>`,
  );
}

/** What someone sees who opens the sandbox's address in a browser. */
export function homePage({ world }: PageRequest): PageAnswer {
  const { sessions, subscriptions, customers, events } = world.store;
  const counts: [string, number][] = [
    ['Customers', customers.all().length],
    ['Checkout sessions', sessions.all().length],
    ['Subscriptions', subscriptions.all().length],
    ['Events', events.all().length],
  ];
  return {
    status: 200,
    page: layout(
      'Offline Stripe',
      html`<main class="narrow"><section class="card">
<h1>An offline Stripe</h1>
<p>Point a Stripe client at <code>${world.publicUrl}</code> with any key that begins with <code>sk_test_</code>.</p>
<dl class="counts">${counts.map(([name, count]) => html`<div><dt>${name}</dt><dd>${count}</dd></div>`)}</dl>
<p class="fine">How to drive it from tests: <code>sandbox/README.md</code>.</p>
</section></main>`,
    ),
  };
}
