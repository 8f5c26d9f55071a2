import './styles/theme.css';
import './styles/base.css';
import { mount } from 'svelte';
import App from './app/App.svelte';

const target = document.getElementById('app');
if (!target) throw new Error('expected an element with the id `app` in index.html');
mount(App, { target });
