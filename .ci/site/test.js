// Opens every page of the built site in a headless Chromium. The browser is that of the system: CHROMIUM, or the first found.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import { extname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'

const site = fileURLToPath(new URL('../../bin/site', import.meta.url))
const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json', '.woff2': 'font/woff2', '.txt': 'text/plain' }
const pages = readdirSync(site, { recursive: true }).filter(name => name.endsWith('.html') && name !== '404.html').sort()

let server, browser, origin

before(async () => {
  server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://site').pathname)
    const file = join(site, path.endsWith('/') ? path + 'index.html' : path)
    if (!existsSync(file) || statSync(file).isDirectory()) {
      response.writeHead(404).end()
      return
    }
    response.writeHead(200, { 'content-type': types[extname(file)] ?? 'application/octet-stream' }).end(readFileSync(file))
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  origin = `http://127.0.0.1:${server.address().port}`
  const executablePath = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(path => existsSync(path))
  assert.ok(executablePath, 'no Chromium was found: run "make site-tools", or set CHROMIUM')
  browser = await chromium.launch({ executablePath, args: process.getuid() === 0 ? ['--no-sandbox'] : [] })
})

after(async () => {
  await browser?.close()
  server?.close()
})

// open opens a page, and returns it with everything that went wrong.
async function open(path) {
  const page = await browser.newPage()
  const wrong = []
  page.on('console', message => { if (message.type() === 'error') wrong.push(`console: ${message.text()}`) })
  page.on('pageerror', error => wrong.push(`error: ${error.message}`))
  page.on('requestfailed', request => wrong.push(`request failed: ${request.url()}`))
  page.on('request', request => { if (!request.url().startsWith(origin) && !request.url().startsWith('data:')) wrong.push(`request to another host: ${request.url()}`) })
  await page.goto(`${origin}/${path}`, { waitUntil: 'load' })
  return { page, wrong }
}

const ids = new Map() // the anchors of each page
const links = [] // all links of all pages

test('the site has a page for every Markdown file of docs', () => {
  const docs = fileURLToPath(new URL('../../docs', import.meta.url))
  for (const name of readdirSync(docs, { recursive: true }).filter(name => name.endsWith('.md'))) {
    assert.ok(pages.includes(join('docs', name.replace(/\.md$/, '.html'))), `docs/${name} has no page`)
  }
  assert.ok(pages.includes('index.html'), 'the README has no page')
})

for (const path of pages) {
  test(`${path} opens without an error`, async () => {
    const { page, wrong } = await open(path)
    const diagrams = await page.locator('.mermaid').count()
    await page.waitForFunction(count => document.querySelectorAll('.mermaid svg').length === count, diagrams)
    const images = await page.locator('img').all()
    for (const image of images) {
      await image.scrollIntoViewIfNeeded()
      const source = await image.getAttribute('src')
      await image.evaluate(element => element.decode()).catch(() => wrong.push(`the picture ${source.slice(0, 80)} is broken`))
    }
    for (const width of [1280, 390]) {
      await page.setViewportSize({ width, height: 800 })
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
      if (wide > 0) wrong.push(`the page is ${wide} pixels wider than a window of ${width} pixels`)
    }
    ids.set(path, new Set(await page.evaluate(() => [...document.querySelectorAll('[id]')].map(element => element.id))))
    for (const href of await page.evaluate(() => [...document.querySelectorAll('a[href]')].map(element => element.href))) links.push({ path, href })
    await page.close()
    assert.deepEqual(wrong, [])
  })
}

test('no link is dead', () => {
  const dead = new Set()
  for (const { path, href } of links) {
    const url = new URL(href) // throws if the syntax is wrong
    if (url.origin !== origin) {
      if (url.protocol !== 'https:' && url.hostname !== 'localhost') dead.add(`${path}: ${href} is not https`)
      continue
    }
    const target = decodeURIComponent(url.pathname).slice(1).replace(/(^|\/)$/, '$1index.html')
    if (!existsSync(join(site, target)) || statSync(join(site, target)).isDirectory()) dead.add(`${path}: ${href}`)
    else if (url.hash && !ids.get(target)?.has(decodeURIComponent(url.hash.slice(1)))) dead.add(`${path}: ${href} has no such anchor`)
  }
  assert.ok(links.length > 0)
  assert.deepEqual([...dead], [])
})

test('the search finds a page, and opens it', async () => {
  const { page, wrong } = await open('index.html')
  await page.locator('.VPNavBarSearch button').first().click()
  await page.locator('#localsearch-input').fill('ScaleConflict')
  const result = page.locator('#localsearch-list a').first()
  await result.waitFor()
  assert.match(await result.innerText(), /./)
  await result.click()
  await page.waitForURL(/\/docs\/.*\.html/)
  await page.locator('.vp-doc', { hasText: 'ScaleConflict' }).waitFor()
  await page.close()
  assert.deepEqual(wrong, [])
})
