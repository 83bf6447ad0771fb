// Small pieces that several screens show: a status, a bar, a rate, an ETA, the links between the screens of a run.

import { el } from './dom.js';
import { percent, rate, seconds, span } from './format.js';

export const ACTIVE = ['pending', 'enqueued', 'running', 'paused'];

export function isActive(run)
{
	return ACTIVE.includes(run.status);
}

export function statusChip(status)
{
	return el('span', { class: 'status status-' + status + (ACTIVE.includes(status) ? ' now' : '') }, status);
}

// A bar; the number stands beside it.
export function bar(run, big)
{
	return el('progress', {
		class: [big && 'big', 'bar-' + run.status].filter(Boolean).join(' '), max: 100, value: run.progress === null ? null : Number(run.progress),
		'aria-label': `Progress of run ${run.id}`, 'aria-valuetext': run.progress === null ? 'not known yet' : percent(run.progress),
	});
}

// Whether the run is being held: no batch begins.  A limit of a rate, and a measure that is only near its limit, slow it down; any other
// reason of throttling holds it.
export function isHeld(run)
{
	return run.status === 'paused' || run.status === 'running' &&
		(run.throttled_by ? !/^(backfill\.)?(wal_)?rate_limit(:|$)|: slowed to /.test(run.throttled_by) : !run.rows_per_second && !!run.wait_reason);
}

export function rateText(run)
{
	return run.status === 'running' || run.finished_at ? rate(run.rows_per_second) : '–';
}

// When it will be done.  A guess out of the first moments is none: three batches must be done, and five seconds gone.
export function etaText(run, now)
{
	if (run.status !== 'running')
		return '–';
	if (isHeld(run))
		return 'held';
	if (run.eta === null)
		return run.wait_reason ? '–' : 'estimating';
	if (run.batches < 3 || Date.parse(now) - Date.parse(run.started_at) < 5000)
		return 'estimating';
	return span(seconds(run.eta));
}

// What holds or slows a run: the short name and, behind it, why.
export function reason(text)
{
	const at = text.indexOf(': ');

	return at < 0 ? el('span', null, text) : el('span', null, el('b', null, text.slice(0, at)), ': ', text.slice(at + 2));
}

// The screens of one run.
export function runNav(run, here, errors)
{
	const path = '/runs/' + run.id;
	const to = (name, href, n) => el('a', { href, 'aria-current': name === here ? 'page' : null }, name, n ? el('span', { class: 'badge' }, n) : null);

	return el('nav', { class: 'tabs', 'aria-label': `Run ${run.id}` },
		to('Overview', path), to('Batches', path + '/batches'), to('Errors', path + '/errors', errors), to('Events', path + '/events'));
}

// Links that choose one of several.  `items`: [name, href, chosen].
export function tabs(label, items)
{
	return el('nav', { class: 'tabs', 'aria-label': label },
		items.map(([name, href, chosen, n]) => el('a', { href, 'aria-current': chosen ? 'true' : null, 'data-here': '' }, name,
			n ? el('span', { class: 'badge' }, n) : null)));
}

// The path with other values of its query; null takes one out.
export function withQuery(path, changes)
{
	const url = new URL(path, location.origin);

	for (const [name, value] of Object.entries(changes))
		if (value === null || value === '')
			url.searchParams.delete(name);
		else
			url.searchParams.set(name, value);
	return url.pathname + url.search;
}

export function query(path, name)
{
	return new URL(path, location.origin).searchParams.get(name);
}

// The field to search with; the screen is asked anew as one types.
export function searchBox(context, label)
{
	const field = el('input', {
		type: 'search', name: 'q', id: 'search', autocomplete: 'off', placeholder: label + '  ( / )', 'aria-label': label, 'aria-keyshortcuts': '/',
		'data-keep': 'search', value: query(context.path, 'q') || null,
	});

	return el('form', {
		role: 'search', class: 'search',
		onsubmit: event =>
		{
			event.preventDefault();
			context.go(withQuery(context.path, { q: document.getElementById('search').value.trim(), before: null }));
		},
		oninput: () => context.later('search', 250,
			() => context.go(withQuery(context.path, { q: document.getElementById('search').value.trim(), before: null }))),
	}, field);
}

// To what is older, and back to the newest.
export function pager(context, more, before)
{
	return more || query(context.path, 'before') ? el('nav', { class: 'row', 'aria-label': 'Pages' },
		query(context.path, 'before') ? el('a', { class: 'button', href: withQuery(context.path, { before: null }), 'data-here': '' }, 'Newest') : null,
		more ? el('a', { class: 'button', href: withQuery(context.path, { before }), 'data-here': '' }, 'Older') : null) : null;
}
