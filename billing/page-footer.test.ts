import { afterAll, beforeAll, expect, it } from 'vitest';
import { type BillingUnderTest, startBillingUnderTest } from '../test/billing.ts';

let test: BillingUnderTest;
beforeAll(async () => {
  test = await startBillingUnderTest();
});
afterAll(() => test.close());

const footer = async (path: string) => {
  const text = await (await fetch(`${test.url}${path}`, { headers: { Accept: 'text/html' } })).text();
  return /<footer>[\s\S]*<\/footer>/.exec(text)?.[0];
};

it('every page leads to support, and to the terms, refunds and privacy that are set', async () => {
  expect(await footer('/')).not.toMatch(/Terms|Refunds|Privacy/);
  await test.restart({
    TERMS_URL: 'https://www.example.com/terms?of="use"',
    PRIVACY_URL: 'https://www.example.com/privacy#cookies',
  });
  for (const path of ['/', '/billing/manage', '/nowhere']) {
    const text = await footer(path);
    expect(text).toContain('help@example.com');
    expect(text).toContain(
      '<p><a href="https://www.example.com/terms?of=&quot;use&quot;">Terms</a> · <a href="https://www.example.com/privacy#cookies">Privacy</a></p>',
    );
    expect(text).not.toContain('Refunds');
  }
});
