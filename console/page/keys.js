// The keyboard and the theme.

import { el } from './dom.js';
import { show } from './act.js';

const KEYS = [
	['/', 'search'], ['j, k', 'next and previous row'], ['Enter', 'open the row'], ['r', 'ask again at once'],
	['g r, g d, g h', 'go to runs, definitions, health'], ['t', 'theme: light, dark, as the system'], ['?', 'this help'], ['Esc', 'leave the field or the dialog'],
];

// --- The theme: as the system has it, unless the viewer wants another ---

function stored()
{
	try
	{
		return localStorage.getItem('theme');
	}
	catch (error)
	{
		return null;
	}
}

export function useTheme(theme)
{
	if (theme)
		document.documentElement.dataset.theme = theme;
	else
		delete document.documentElement.dataset.theme;
}

export function storedTheme()
{
	useTheme(stored());
}

// The next of the three.
function turnTheme(context)
{
	const next = { light: 'dark', dark: null }[stored()];
	const theme = stored() === null ? 'light' : next;

	try
	{
		if (theme)
			localStorage.setItem('theme', theme);
		else
			localStorage.removeItem('theme');
	}
	catch (error)
	{
		// it holds for this page, then
	}
	useTheme(theme);
	context.say('Theme: ' + (theme || 'as the system'));
	context.draw();
}

export function help()
{
	show('Keys', el('dl', { class: 'keys' }, KEYS.map(([key, what]) =>
		el('div', null, el('dt', null, key.split(', ').map(k => [el('kbd', null, k), ' '])), el('dd', null, what)))));
}

// --- Rows ---

function moveRow(by)
{
	const links = [...document.querySelectorAll('main tbody tr')];
	const here = links.findIndex(row => row.contains(document.activeElement));
	const next = links[here < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(Math.max(here + by, 0), links.length - 1)];

	if (!next)
		return;
	const target = next.querySelector('a, button') || next;
	if (target === next)
		next.tabIndex = -1;
	target.focus();
	target.scrollIntoView({ block: 'nearest' });
}

// Listen.  `context`: { refresh, draw, say }.
export function listen(context)
{
	let before = '';

	document.addEventListener('keydown', event =>
	{
		const field = event.target.closest('input, select, textarea');
		const last = before;

		before = '';
		if (event.key === 'Escape' && field && !field.closest('dialog'))
			field.blur();
		if (field || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]'))
			return;
		if (last === 'g' && { r: 1, d: 1, h: 1 }[event.key])
		{
			location.assign({ r: '/runs', d: '/definitions', h: '/health' }[event.key]);
			return;
		}
		switch (event.key)
		{
			case '/':
				if (document.getElementById('search'))
				{
					event.preventDefault();
					document.getElementById('search').focus();
				}
				break;
			case '?': help(); break;
			case 'j': moveRow(1); break;
			case 'k': moveRow(-1); break;
			case 'r': context.refresh(); break;
			case 't': turnTheme(context); break;
			case 'g': before = 'g'; break;
		}
	});
}

// The buttons in the head of the page for those without a keyboard.
export function buttons(context)
{
	return [
		el('button', { class: 'link', 'aria-keyshortcuts': 't', title: 'Theme (t)', onclick: () => turnTheme(context) }, 'Theme'),
		el('button', { class: 'link', 'aria-keyshortcuts': '?', title: 'Keys (?)', onclick: help }, 'Keys'),
	];
}
