import{a}from"./chunk-3LAAKM3V.js";import"./chunk-ZHIY47Q2.js";import"./chunk-XTN7XK52.js";export{a as Curves};
