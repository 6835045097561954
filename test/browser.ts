import { existsSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe } from 'vitest';

const executable = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);

/** Opens a page that draws; what its console says, and what it throws, is added to `problems`. */
export interface OpenPage {
  (url: string, width: number, colorScheme: 'light' | 'dark', watch?: (page: Page) => void): Promise<Page>;
  readonly problems: string[];
}

/** Tests of `what` in headless Chromium, skipped with a word where there is none. `home` is a directory to use as its home. */
export function describeInBrowser(what: string, home: string, tests: (open: OpenPage) => void): void {
  if (!executable) console.log(`${what} in a browser: skipped, there is no Chromium (apt-get install chromium)`);
  describe.skipIf(!executable)(`${what} in headless Chromium`, () => {
    let browser: Browser;
    const problems: string[] = [];
    beforeAll(async () => {
      // Not this process's environment: its library paths are those of the software driver.
      const env = { PATH: process.env.PATH ?? '', HOME: home };
      browser = await chromium.launch({ executablePath: executable, args: ['--no-sandbox'], env });
    });
    afterAll(() => browser?.close());
    const open = async (url: string, width: number, colorScheme: 'light' | 'dark', watch?: (page: Page) => void) => {
      const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
      page.on('console', (message) => problems.push(message.text()));
      page.on('pageerror', (error) => problems.push(String(error)));
      watch?.(page);
      await page.goto(url);
      await page.waitForSelector('html[data-drawn]', { state: 'attached' });
      return page;
    };
    tests(Object.assign(open, { problems }));
  });
}
